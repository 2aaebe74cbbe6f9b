"""Approximate search for pairs of near vectors: a graph of neighbours proposes pairs, exact cosines decide on them.

The graph is the one of Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
hierarchical navigable small world graphs" (2016), as usearch builds it: from vectors of one byte per coordinate. One
thread builds it, because the order of insertions decides its edges. So the same vectors have the same pairs on every
run, with any number of threads. Vectors that are equal in bytes are one vector of the graph, where each would be
compared with all of its equals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.cosines import row_cosines
from flipkd_sdk.runtimes.linkage.near_pairs import Pairs
from flipkd_sdk.runtimes.onnx.threads import available_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_CHUNK = 4096
"""Vectors between two reports of progress: a second of work at most."""
_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 16, 96, 96
"""Edges of a vector, and the vectors compared for one: more of them find more pairs and take longer."""
_SPARE = 6
"""Neighbours fetched beyond the number wanted, because one byte per coordinate orders near ones inexactly."""


def approximate_pairs(
    left: NDArray[np.float32],
    right: NDArray[np.float32] | None = None,
    *,
    least: float,
    most: int,
    progress: Callable[[int, int], None] | None = None,
) -> Pairs:
    """Find nearly all pairs that `near_pairs` finds; arguments and result are the same.

    Raises:
        ModuleNotFoundError: usearch is not installed.
    """
    within, right = right is None, left if right is None else right
    report = progress or (lambda _done, _total: None)
    empty = np.empty(0, np.int64)
    parts = [Pairs(empty, empty, np.empty(0, np.float32))]
    if len(left) and len(right):
        graph = _Graph(right, lambda done: report(done, len(left) + len(right)))
        # Within one set, a vector finds itself too.
        wanted = most + within + _SPARE
        for rows in _chunks(len(left)):
            a, b = graph.near(left[rows], wanted)
            parts.append(_nearest(left, right, a + rows.start, b, least=least, most=most, within=within))
            report(len(right) + rows.stop, len(left) + len(right))
    found = Pairs(*map(np.concatenate, zip(*parts, strict=True)))
    if within:
        low, high = np.minimum(found.a, found.b), np.maximum(found.a, found.b)
        # Each of the two vectors may have found the other.
        once = np.unique(low * len(left) + high, return_index=True)[1]
        found = Pairs(low[once], high[once], found.cosine[once])
    return found.at(np.lexsort((found.b, -found.cosine, found.a)))


class _Graph:
    """Index of vectors in bytes, of which equal ones are one."""

    def __init__(self, vectors: NDArray[np.float32], report: Callable[[int], None]) -> None:
        from usearch.index import Index

        factors = np.random.default_rng(0).integers(1, 1 << 62, vectors.shape[1]) * 2 + 1
        hashes = np.concatenate([_in_bytes(vectors[rows]).astype(np.int64) @ factors for rows in _chunks(len(vectors))])
        first, group, self._sizes = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)[1:]
        self._members: NDArray[np.int64] = np.argsort(group, kind="stable")
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._index = Index(
            ndim=vectors.shape[1],
            metric="cos",
            dtype="i8",
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_EXPANSION_SEARCH,
            enable_key_lookups=False,
        )
        # In the order of the vectors, because that of their hashes has no meaning.
        added = np.argsort(first)
        for rows in _chunks(len(added)):
            keys = added[rows]
            self._index.add(keys.astype(np.uint64), _in_bytes(vectors[first[keys]]), threads=1)
            report(int(first[keys[-1]]) + 1)

    def near(self, queries: NDArray[np.float32], wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the queries and vectors that are probably near, ``wanted`` vectors of each query or more."""
        matches = self._index.search(_in_bytes(queries), min(wanted, len(self._sizes)), threads=available_threads())
        keys = np.atleast_2d(matches.keys)
        # One query has a result of another class, without empty places.
        filled = np.arange(keys.shape[1]) < getattr(matches, "counts", np.array([keys.shape[1]]))[:, None]
        rows, groups = np.nonzero(filled)[0], keys[filled].astype(np.int64)
        sizes = np.minimum(self._sizes[groups], wanted)
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.repeat(rows, sizes), self._members[np.repeat(self._starts[groups], sizes) + offsets]


def _in_bytes(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return vectors with the same directions, about, whose largest coordinate is 127."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    numbers: NDArray[np.int8] = np.rint(vectors * (127 / np.maximum(largest, np.float32(1e-30)))).astype(np.int8)
    return numbers


def _nearest(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    *,
    least: float,
    most: int,
    within: bool,
) -> Pairs:
    """Return the pairs that reach ``least``, the nearest ``most`` of each vector of ``left``."""
    if within:
        a, b = a[a != b], b[a != b]
    cosine = row_cosines(left, a, right, b)
    order = np.lexsort((b, -cosine, a))
    a, b, cosine = a[order], b[order], cosine[order]
    rank = np.arange(len(a)) - np.searchsorted(a, a)
    return Pairs(a, b, cosine).at((rank < most) & (cosine >= np.float32(least)))


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
