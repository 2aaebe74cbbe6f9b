"""Groups of near texts, as merges in their order: average or complete linkage, or connected components.

A pair's value is its log-odds of a match. With average linkage the value of two groups is the mean over all their
pairs. Pairs that were not scored count by their cosine, whose mean over two groups is a product of two sums of
vectors. So the mean is exact, although few pairs are scored. Two groups whose mean reaches a value have a pair that
reaches it, so only groups joined by such a pair are compared. See Müllner, "Modern hierarchical, agglomerative
clustering algorithms" (2011), for the linkages.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Linkage = Literal["average", "complete", "components"]
LINKAGES: tuple[Linkage, ...] = ("average", "complete", "components")


class Edges(NamedTuple):
    """Scored pairs."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    value: NDArray[np.float64]
    """Log-odds of a match, shape (n,)."""
    expected: NDArray[np.float64]
    """Log-odds by the cosine, shape (n,)."""

    def at(self, rows: NDArray[np.int64]) -> Edges:
        """Return some of the pairs."""
        return Edges(self.a[rows], self.b[rows], self.value[rows], self.expected[rows])


class Merges(NamedTuple):
    """Merges of groups, from the highest value to the lowest."""

    a: NDArray[np.int64]
    """An item of one group: its first, shape (m,)."""
    b: NDArray[np.int64]
    """The first item of the other group, shape (m,)."""
    value: NDArray[np.float64]
    """Shape (m,)."""

    def followed_by(self, lower: Merges, least: float) -> Merges:
        """Return these merges and those of another clustering that are below a value."""
        return Merges(
            *(np.concatenate([own, other[lower.value < least]]) for own, other in zip(self, lower, strict=True))
        )

    def labels(self, count: int, least: float) -> NDArray[np.int64]:
        """Return the first item of each item's group if merges of at least a value are made, shape (count,)."""
        made = self.value >= least
        return components(count, self.a[made], self.b[made])


class Line(NamedTuple):
    """Log-odds as a function of the cosine."""

    slope: float
    intercept: float


def merges(edges: Edges, vectors: NDArray[np.float32], line: Line, *, linkage: Linkage, least: float) -> Merges:
    """Merge items into groups.

    Args:
        edges: the scored pairs, each once.
        vectors: of the items, shape (n, d).
        line: log-odds of pairs that are not scored.
        linkage: value of two groups: the mean of their pairs (``average``), the lowest if all are scored
            (``complete``), or the highest (``components``).
        least: smallest value of a merge.
    """
    strong = edges.value >= least
    labels = components(len(vectors), edges.a[strong], edges.b[strong])
    made: list[tuple[float, int, int]] = []
    # Within a component only: its parts are small, so that the structures of the merging are.
    inside = np.flatnonzero(labels[edges.a] == labels[edges.b])
    inside = inside[np.argsort(labels[edges.a[inside]], kind="stable")]
    owners = labels[edges.a[inside]]
    for part in np.split(inside, np.flatnonzero(np.diff(owners)) + 1) if len(inside) else ():
        own = edges.at(part)
        made += _highest(own, least) if linkage == "components" else _Merging(own, vectors, line, linkage, least).run()
    made.sort(key=lambda merge: (-merge[0], merge[1], merge[2]))
    a, b = (np.array([merge[side] for merge in made], dtype=np.int64) for side in (1, 2))
    return Merges(a, b, np.array([merge[0] for merge in made], dtype=np.float64))


def components(count: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the smallest item connected with each item by pairs, shape (count,)."""
    labels = np.arange(count)
    while len(a):
        low, high = np.minimum(labels[a], labels[b]), np.maximum(labels[a], labels[b])
        open_ = low < high
        a, b, low, high = a[open_], b[open_], low[open_], high[open_]
        np.minimum.at(labels, high, low)
        while (labels[labels] != labels).any():
            labels = labels[labels]
    return labels


def _highest(edges: Edges, least: float) -> Iterator[tuple[float, int, int]]:
    root: dict[int, int] = {}

    def find(item: int) -> int:
        while (above := root.get(item, item)) != item:
            root[item] = item = root.get(above, above)
        return item

    for index in np.lexsort((edges.b, edges.a, -edges.value)):
        a, b = sorted((find(int(edges.a[index])), find(int(edges.b[index]))))
        if a != b and edges.value[index] >= least:
            root[b] = a
            yield float(edges.value[index]), a, b


class _Merging:
    """Agglomeration of one component, by the highest value first."""

    def __init__(self, edges: Edges, vectors: NDArray[np.float32], line: Line, linkage: Linkage, least: float) -> None:
        self._items, ends = np.unique(np.concatenate([edges.a, edges.b]), return_inverse=True)
        first, second = np.split(ends, 2)
        self._line = line
        self._average = linkage == "average"
        self._least = least
        self._sums = vectors[self._items].astype(np.float64 if len(self._items) < 10_000 else np.float32)
        self._sizes = np.ones(len(self._items))
        self._versions = [0] * len(self._items)
        # Per neighbour: what its scored pairs add to the mean of the cosines, or their number and the lowest of them.
        self._near: list[dict[int, float]] = [{} for _ in self._items]
        self._count: list[dict[int, int]] = [{} for _ in self._items]
        self._waiting: list[tuple[float, int, int, int, int]] = []
        kept = edges.value - edges.expected if self._average else edges.value
        for a, b, value, number in zip(
            first.tolist(), second.tolist(), edges.value.tolist(), kept.tolist(), strict=True
        ):
            self._near[a][b] = self._near[b][a] = number
            self._count[a][b] = self._count[b][a] = 1
            if value >= least:
                self._waiting.append((-value, min(a, b), max(a, b), 0, 0))
        heapq.heapify(self._waiting)

    def run(self) -> Iterator[tuple[float, int, int]]:
        """Yield value, first group and second group of each merge."""
        while self._waiting:
            negative, a, b, version_a, version_b = heapq.heappop(self._waiting)
            if self._versions[a] != version_a or self._versions[b] != version_b:
                continue
            yield -negative, int(self._items[a]), int(self._items[b])
            self._merge(a, b)

    def _merge(self, a: int, b: int) -> None:
        near, count = self._near[a], self._count[a]
        for other, number in self._near[b].items():
            self._near[other].pop(b)
            pairs = self._count[other].pop(b)
            if other == a:
                continue
            near[other] = self._joined(near.get(other), number)
            count[other] = count.get(other, 0) + pairs
            self._near[other][a], self._count[other][a] = near[other], count[other]
        self._near[b], self._count[b] = {}, {}
        self._sums[a] += self._sums[b]
        self._sizes[a] += self._sizes[b]
        self._versions[a] += 1
        self._versions[b] = -1
        if not near:
            return
        others = list(near)
        for other, value in zip(others, self._values(a, others), strict=True):
            if value >= self._least:
                low, high = min(a, other), max(a, other)
                entry = (-value, low, high, self._versions[low], self._versions[high])
                heapq.heappush(self._waiting, entry)

    def _joined(self, before: float | None, number: float) -> float:
        if before is None:
            return number
        return before + number if self._average else min(before, number)

    def _values(self, a: int, others: Sequence[int]) -> list[float]:
        numbers = np.array([self._near[a][other] for other in others])
        pairs = self._sizes[a] * self._sizes[others]
        if self._average:
            cosines = self._sums[others] @ self._sums[a] / pairs
            values = self._line.slope * cosines + self._line.intercept + numbers / pairs
        else:
            counts = np.array([self._count[a][other] for other in others])
            values = np.where(counts == pairs, numbers, -np.inf)
        found: list[float] = values.tolist()
        return found
