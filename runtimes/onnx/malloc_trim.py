"""Freed memory goes back to the system after much work, where the C library would keep it for later."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def trim() -> None:
    """Give back what the C library's heap holds free: some milliseconds; nothing where it has no such function.

    What onnxruntime frees after each run is cut in pieces by what stays, and glibc gives back the end of its heap
    alone. For a model of 45 MB that makes a few dozen more.
    """
    _trimmer()(0)


@functools.cache
def _trimmer() -> Callable[[int], object]:
    """Glibc's ``malloc_trim``, or a function that does nothing."""
    if sys.platform != "linux":
        return bool
    import ctypes

    return getattr(ctypes.CDLL(None), "malloc_trim", bool)  # which musl has not
