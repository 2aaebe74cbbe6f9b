"""Which texts run through the model together. The promise that a score never depends on its companions is kept here.

Padding every text to the longest one of its batch is the usual way, and it lets the companions in: another padded
length means other matrix shapes, other blocking in the kernels and other sums. Here a text is padded to a length that
follows from its own token count, rounded up to a multiple of `LENGTH_STEP`, and a batch holds only texts of one padded
length. So a text always runs at the same length, whatever it runs with; companions change nothing but the number of
rows of each matrix product, and rows are summed independently of each other.

The step is small because padding is paid for in every text, while a further length costs one more pass over the weights
per call, worth about eight tokens on a CPU. Four also keeps the row count of every product above one, where some
kernels switch to a matrix-vector routine that sums in another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTH_STEP = 4


class Batch(NamedTuple):
    """Texts that run through the model together."""

    rows: list[int]
    """Places of the texts in the list that was planned."""
    width: int
    """Tokens that each of them is padded to."""


def padded_length(length: int, max_length: int) -> int:
    """Tokens that a text of ``length`` tokens is padded to; a function of the text alone."""
    return min(-(-length // LENGTH_STEP) * LENGTH_STEP, max_length)


def plan_batches(
    lengths: Sequence[int], *, max_length: int, max_tokens: int, max_rows: int | None = None
) -> list[Batch]:
    """Group texts by padded length, shortest first, and cut the groups by a budget of tokens.

    A budget of tokens bounds memory, which a number of rows does not.

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
