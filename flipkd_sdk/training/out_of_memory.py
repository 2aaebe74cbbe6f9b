"""Out-of-memory errors of any device, reported with the option to change."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from flipkd_sdk.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def explain_out_of_memory(task: str, remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error of any device into a `TrainingError`: ``TASK: out of memory; REMEDY``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise TrainingError(f"{task}: out of memory; {remedy}") from error


def _is_out_of_memory(error: Exception) -> bool:
    # The CPU's allocator has no error class of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
