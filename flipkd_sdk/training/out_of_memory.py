"""Out of memory, told with the setting to change."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from flipkd_sdk.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def advising(where: str, advice: str) -> Iterator[None]:
    """Turn an out-of-memory error of any device into a `TrainingError`: ``WHERE: out of memory; ADVICE``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise TrainingError(f"{where}: out of memory; {advice}") from error


def _out_of_memory(error: Exception) -> bool:
    # The CPU's allocator has no error class of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
