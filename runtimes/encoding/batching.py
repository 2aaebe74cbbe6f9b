"""Batches in which a text's vector does not depend on the other texts.

Padding every text to the longest one of its batch, as usual, makes vectors depend on the batch: another padded length
means other matrix shapes, other blocking in the kernels and other sums. Here a text is padded to its own token count,
rounded up to a multiple of `LENGTH_STEP`, and a batch contains texts of one padded length only. The other texts then
change only the number of rows of each matrix product, and rows are summed independently of each other.

The step is small because padding costs time in every text, while a further length costs one more pass over the weights
per call, worth about eight tokens on a CPU. A step of four also keeps every product at more than one row: for one row,
some kernels switch to a matrix-vector routine that sums in another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTH_STEP = 4


class Batch(NamedTuple):
    """Texts of one run of the model."""

    rows: list[int]
    """Indices of the texts in the planned list."""
    width: int
    """Padded length in tokens."""


def padded_length(length: int, max_length: int) -> int:
    """Return the padded length of a text of ``length`` tokens."""
    return min(-(-length // LENGTH_STEP) * LENGTH_STEP, max_length)


def plan_batches(
    lengths: Sequence[int], *, max_length: int, max_tokens: int, max_rows: int | None = None
) -> list[Batch]:
    """Group texts by padded length, shortest first, and split the groups by a budget of tokens, which bounds memory.

    Args:
        lengths: token count of each text, each in [1, ``max_length``].
        max_length: most tokens of a text.
        max_tokens: most tokens of a batch, padding included; a longer text runs alone.
        max_rows: most texts of a batch.
    """
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(padded_length(length, max_length), []).append(row)
    batches = []
    for width, rows in sorted(groups.items()):
        size = max(1, max_tokens // width)
        if max_rows is not None:
            size = min(size, max_rows)
        batches += [Batch(rows[start : start + size], width) for start in range(0, len(rows), size)]
    return batches
