"""One-to-one matches: each row of either table is in one match at most."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flipkd_sdk.runtimes.linkage.clustering import components

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_MOST_CELLS = 1 << 22
"""Cells of the largest matrix that is solved exactly."""


class Matches(NamedTuple):
    """Pairs of texts that match, each once."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    score: NDArray[np.float32]

    def at(self, rows: NDArray[np.int64]) -> Matches:
        """Return some of the pairs."""
        return Matches(self.a[rows], self.b[rows], self.score[rows])


def assign(matches: Matches, a_rows: NDArray[np.int64], b_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose matches with the highest sum of scores such that no row is in two of them.

    With scipy the choice is optimal in every connected part of at most four million possible pairs of rows. In larger
    parts, and without scipy, it is greedy: the highest score first, equal ones by index. A greedy sum is at least half
    the best one.

    Args:
        matches: pairs of distinct texts.
        a_rows: number of rows of each text of the first table.
        b_rows: number of rows of each text of the second table.

    Returns:
        Number of rows that each pair matches, shape (n,).
    """
    numbers = np.zeros(len(matches.a), dtype=np.int64)
    for part in _connected(matches):
        numbers[part] = _solve(matches.at(part), a_rows, b_rows)
    return numbers


def _connected(matches: Matches) -> Iterator[NDArray[np.int64]]:
    if not len(matches.a):
        return
    left, right = np.unique(matches.a, return_inverse=True)[1], np.unique(matches.b, return_inverse=True)[1]
    size = int(left.max()) + 1
    owners = components(size + int(right.max()) + 1, left, right + size)[left]
    order = np.argsort(owners, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(owners[order])) + 1)


def _solve(part: Matches, a_rows: NDArray[np.int64], b_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(part.a) == 1:
        return np.minimum(a_rows[part.a], b_rows[part.b])
    a, left = np.unique(part.a, return_inverse=True)
    b, right = np.unique(part.b, return_inverse=True)
    # A text has no use for more rows than its partners have.
    a_copies = np.minimum(a_rows[a], np.bincount(left, b_rows[part.b]).astype(np.int64))
    b_copies = np.minimum(b_rows[b], np.bincount(right, a_rows[part.a]).astype(np.int64))
    if int(a_copies.sum()) * int(b_copies.sum()) > _MOST_CELLS:
        return _greedy(part, a_rows, b_rows)
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError:
        return _greedy(part, a_rows, b_rows)
    gains = np.zeros((len(a), len(b)))
    gains[left, right] = np.maximum(part.score.astype(np.float64), 1e-9)  # A match of score 0 is better than none.
    pairs = np.full(gains.shape, len(part.a), dtype=np.int64)
    pairs[left, right] = np.arange(len(part.a))
    rows, columns = np.repeat(np.arange(len(a)), a_copies), np.repeat(np.arange(len(b)), b_copies)
    chosen = linear_sum_assignment(gains[np.ix_(rows, columns)], maximize=True)
    return np.bincount(pairs[rows[chosen[0]], columns[chosen[1]]], minlength=len(part.a) + 1)[:-1]


def _greedy(part: Matches, a_rows: NDArray[np.int64], b_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    numbers = np.zeros(len(part.a), dtype=np.int64)
    left = {text: int(a_rows[text]) for text in part.a.tolist()}
    right = {text: int(b_rows[text]) for text in part.b.tolist()}
    for pair in np.lexsort((part.b, part.a, -part.score)).tolist():
        a, b = int(part.a[pair]), int(part.b[pair])
        numbers[pair] = number = min(left[a], right[b])
        left[a] -= number
        right[b] -= number
    return numbers
