"""Return of freed memory to the system after much work."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def trim() -> None:
    """Return freed memory of glibc's heap to the system, in some milliseconds; do nothing with other C libraries.

    Fragmentation keeps glibc from returning memory that onnxruntime frees: it returns only the end of its heap. For a
    model of 45 MB the rest amounts to a few dozen MB.
    """
    _trimmer()(0)


@functools.cache
def _trimmer() -> Callable[[int], object]:
    """Return glibc's ``malloc_trim``, or a function that does nothing."""
    if sys.platform != "linux":
        return bool
    import ctypes

    return getattr(ctypes.CDLL(None), "malloc_trim", bool)  # musl has none
