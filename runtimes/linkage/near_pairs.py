"""Exact search for pairs of near vectors: blocks of bounds, then blocks of cosines, then the cosines of pairs.

Rotated to their principal axes, unit vectors have most of their length in the first few coordinates. The product of
those coordinates plus the product of the lengths of the rest is an upper bound of the cosine (Cauchy and Schwarz). So a
product of short vectors leaves few pairs, which are computed as pairs are everywhere else. Nothing is missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flipkd_sdk.evaluation.cosines import row_cosines

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_ROWS, _COLUMNS = 1024, 4096
"""Size of a block: 16 MiB of float32."""
_SHORT = 6
"""Share of the coordinates that the bound reads: one sixth, which holds nine tenths of a text vector's length."""
_DENSE = 64
"""A block is computed as a whole if more than one in so many bounds reaches the floor."""
_SAMPLE = 4096
_SPARE = 1 << 20
"""Pairs kept beyond those that can remain, so that they are sorted seldom."""


class Pairs(NamedTuple):
    """Pairs of near vectors."""

    a: NDArray[np.int64]
    """Indices of the first vectors, shape (n,)."""
    b: NDArray[np.int64]
    """Indices of the second vectors, shape (n,)."""
    cosine: NDArray[np.float32]
    """Shape (n,)."""

    def at(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.a[rows], self.b[rows], self.cosine[rows])


def near_pairs(
    left: NDArray[np.float32],
    right: NDArray[np.float32] | None = None,
    *,
    least: float,
    most: int,
    progress: Callable[[int, int], None] | None = None,
) -> Pairs:
    """Find the pairs of unit vectors whose cosine is at least ``least``.

    Memory is bounded by ``most`` pairs per vector, whatever the number of pairs that reach ``least``.

    Args:
        left: shape (n, d).
        right: shape (m, d); None for pairs within ``left``, each once and with ``a < b``.
        least: smallest cosine of a pair.
        most: largest number of pairs of one vector of ``left``: its nearest ones, equal ones by index. Within one set a
            pair stays if it is among the nearest ones of either vector.
        progress: called with the vectors of ``left`` that are done and their number; may raise to stop.

    Returns:
        The pairs, by ``a`` and from near to far.
    """
    best = _Best(left, right, least, most)
    bounds = _Bounds(left, right)
    for start in range(0, len(left), _ROWS):
        rows = slice(start, min(start + _ROWS, len(left)))
        for first in range(start if right is None else 0, len(best.right), _COLUMNS):
            best.add(rows, slice(first, min(first + _COLUMNS, len(best.right))), bounds)
        if progress is not None:
            progress(rows.stop, len(left))
    return best.pairs()


class _Bounds:
    """Short vectors whose products are upper bounds of cosines."""

    def __init__(self, left: NDArray[np.float32], right: NDArray[np.float32] | None) -> None:
        width = max(1, left.shape[1] // _SHORT)
        step = max(1, len(left) // _SAMPLE)
        sample = left[::step].astype(np.float64)
        axes = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :width].astype(np.float32)
        self.left = _short(left, axes)
        self.right = self.left if right is None else _short(right, axes)


def _short(vectors: NDArray[np.float32], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    short = np.empty((len(vectors), axes.shape[1] + 1), dtype=np.float32)
    for start in range(0, len(vectors), _COLUMNS):
        block = slice(start, start + _COLUMNS)
        short[block, :-1] = vectors[block] @ axes
        rest = np.square(vectors[block]).sum(axis=1) - np.square(short[block, :-1]).sum(axis=1)
        short[block, -1] = np.sqrt(np.maximum(rest, 0) + np.float32(1e-6))
    return short


class _Best:
    """The nearest pairs so far, and for each vector the cosine that a further pair must reach."""

    def __init__(self, left: NDArray[np.float32], right: NDArray[np.float32] | None, least: float, most: int) -> None:
        self.left = left
        self.right = left if right is None else right
        self._within = right is None
        self._most = most
        # Products in float32 differ from the cosines of pairs by this at most, see `flipkd_sdk.runtimes.search.exact`.
        self._error = np.float32(4 * left.shape[1] * 2.0**-24)
        self._least = np.float32(least)
        self._floor = np.full(len(left), least, dtype=np.float32)
        self._parts: list[Pairs] = []
        self._count = 0

    def add(self, rows: slice, columns: slice, bounds: _Bounds) -> None:
        """Search one block."""
        product = bounds.left[rows] @ bounds.right[columns].T
        found = self._reaching(product, rows, columns)
        if len(found[0]) > product.size // _DENSE:
            product = self.left[rows] @ self.right[columns].T
            self._raise_floors(product, rows, columns)
            found = self._reaching(product, rows, columns)
        a, b = found[0] + rows.start, found[1] + columns.start
        if self._within:
            ordered = a < b
            a, b = a[ordered], b[ordered]
        cosine = row_cosines(self.left, a, self.right, b)
        near = (cosine >= self._least) & (cosine >= self._needed(a, b))
        self._parts.append(Pairs(a[near], b[near], cosine[near]))
        self._count += len(self._parts[-1].a)
        if self._count > 2 * self._most * len(self.left) + _SPARE:
            self._drop()

    def pairs(self) -> Pairs:
        """Return the nearest pairs."""
        self._drop()
        found = self._parts[0]
        order = np.lexsort((found.b, -found.cosine, found.a))
        return found.at(order)

    def _needed(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.minimum(self._floor[a], self._floor[b]) if self._within else self._floor[a]

    def _reaching(
        self, product: NDArray[np.float32], rows: slice, columns: slice
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        lowest = self._floor[rows].min()
        if self._within:
            lowest = min(lowest, self._floor[columns].min())
        # One comparison with a number is much faster than one with the floor of each pair, which few pairs need.
        found = np.flatnonzero(product.ravel() >= lowest - self._error)
        a, b = np.divmod(found, product.shape[1])
        high = product.ravel()[found] >= self._needed(a + rows.start, b + columns.start) - self._error
        return a[high], b[high]

    def _raise_floors(self, product: NDArray[np.float32], rows: slice, columns: slice) -> None:
        """Raise the floors to what the block alone guarantees, so that it adds few pairs of each vector."""
        for axis, block in ((1, rows), (0, columns)):
            # A vector's own cosine is in the block too, so one more is left out.
            last = product.shape[axis] - self._most - 1
            if last >= 0 and (axis == 1 or self._within):
                lowest = np.take(np.partition(product, last, axis=axis), last, axis=axis)
                self._floor[block] = np.maximum(self._floor[block], lowest - self._error)

    def _drop(self) -> None:
        parts = self._parts or [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
        found = Pairs(*map(np.concatenate, zip(*parts, strict=True)))
        kept = np.zeros(len(found.a), dtype=np.bool_)
        owners = np.concatenate([found.a, found.b]) if self._within else found.a
        others = np.concatenate([found.b, found.a]) if self._within else found.b
        cosine = np.concatenate([found.cosine, found.cosine]) if self._within else found.cosine
        order = np.lexsort((others, -cosine, owners))
        owners, cosine = owners[order], cosine[order]
        start = np.searchsorted(owners, owners)
        rank = np.arange(len(owners)) - start
        kept[order[rank < self._most] % max(1, len(found.a))] = True
        last = rank == self._most - 1
        self._floor[owners[last]] = np.maximum(self._floor[owners[last]], cosine[last])
        self._parts = [found.at(kept)]
        self._count = int(kept.sum())
