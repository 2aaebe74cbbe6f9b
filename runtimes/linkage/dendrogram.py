"""Order of texts in which the groups at every threshold are runs, and the numbers of groups at each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.linkage.clustering import Merges


class Counts(NamedTuple):
    """Numbers of groups at a threshold."""

    groups: int
    """Groups, those of one row included."""
    several: int
    """Groups of at least two rows."""
    rows: int
    """Rows in groups of at least two."""
    largest: int
    """Rows of the largest group."""


class Dendrogram(NamedTuple):
    """Texts in the order of their merges."""

    order: NDArray[np.int64]
    """Shape (n,)."""
    joined: NDArray[np.float64]
    """Highest value, a log-odds, at which each text of ``order`` is in the group of the one before it, shape (n,);
    -inf for texts that are never in one group."""
    values: NDArray[np.float64]
    """Values of the merges, from the highest to the lowest, shape (m,)."""
    steps: NDArray[np.int64]
    """Counts before the first merge and after each, as in `Counts`, shape (m + 1, 4)."""

    def counts(self, least: float) -> Counts:
        """Return the numbers of groups if merges of at least a value are made."""
        made = int(np.searchsorted(-self.values, -least, side="right"))
        return Counts(*self.steps[made].tolist())


def dendrogram(merges: Merges, rows: NDArray[np.int64]) -> Dendrogram:
    """Order texts by their merges.

    Args:
        merges: merges of texts.
        rows: number of rows of each text, shape (n,).
    """
    count = len(rows)
    root, last, after = list(range(count)), list(range(count)), [-1] * count
    sizes: list[int] = rows.tolist()
    joined = np.full(count, -np.inf)
    several = [size for size in sizes if size > 1]
    now = Counts(count, len(several), sum(several), max(sizes, default=0))
    values: list[float] = []
    steps = np.empty((len(merges.a) + 1, len(now)), dtype=np.int64)
    steps[0] = now
    for a, b, value in zip(merges.a.tolist(), merges.b.tolist(), merges.value.tolist(), strict=True):
        first, second = sorted((_find(root, a), _find(root, b)))
        if first == second:
            continue
        root[second] = first
        after[last[first]], last[first] = second, last[second]
        joined[second] = value
        # A group of several rows that becomes part of another one is counted with it.
        before = [size for size in (sizes[first], sizes[second]) if size > 1]
        sizes[first] += sizes[second]
        now = Counts(
            now.groups - 1,
            now.several + 1 - len(before),
            now.rows + sizes[first] - sum(before),
            max(now.largest, sizes[first]),
        )
        values.append(value)
        steps[len(values)] = now
    order = []
    for start in range(count):
        text = start if root[start] == start else -1
        while text >= 0:
            order.append(text)
            text = after[text]
    places = np.array(order, dtype=np.int64)
    return Dendrogram(places, joined[places], np.array(values), steps[: len(values) + 1])


def _find(root: list[int], item: int) -> int:
    while root[item] != item:
        root[item] = item = root[root[item]]
    return item
