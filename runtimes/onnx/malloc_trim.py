"""Return of freed memory to the system: after much work, and after a model is replaced."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


_MMAP_THRESHOLD = -3
"""``M_MMAP_THRESHOLD`` of glibc's malloc.h."""
_LARGE = 4 << 20


def trim() -> None:
    """Return freed memory of glibc's heap to the system, in some milliseconds; do nothing with other C libraries.

    Fragmentation keeps glibc from returning memory that onnxruntime frees: it returns only the end of its heap. For a
    model of 45 MB the rest amounts to a few dozen MB.
    """
    _trimmer()(0)


def map_large_blocks() -> None:
    """Let glibc map each block of 4 MB or more by itself from now on, so that freeing one returns it to the system.

    glibc starts so, but raises the size after each such block that is freed, up to 32 MB. The weights of a later model
    then lie in the heap, where a small block above them holds them. For a program that replaces its models.
    """
    if sys.platform == "linux":
        import ctypes

        getattr(ctypes.CDLL(None), "mallopt", lambda _option, _value: 0)(_MMAP_THRESHOLD, _LARGE)


@functools.cache
def _trimmer() -> Callable[[int], object]:
    """Return glibc's ``malloc_trim``, or a function that does nothing."""
    if sys.platform != "linux":
        return bool
    import ctypes

    return getattr(ctypes.CDLL(None), "malloc_trim", bool)  # musl has none
