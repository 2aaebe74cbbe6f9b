"""Exact search: the best of many vectors for a query, with the very scores that pairs get.

A product in float32 is fast and reads a memory-mapped file as it is, but sums in an order that depends on shapes. Its
error is bounded, though: for unit vectors of dimension d by about d·2⁻²⁴ (Higham, Accuracy and Stability of Numerical
Algorithms, 3.1). So the product only selects the vectors that can be among the best, and those few are scored again as
pairs are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.cosines import row_cosines
from flipkd_sdk.runtimes.options import check_integer, check_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from flipkd_sdk.evaluation.calibration import Calibration

_BLOCK_NUMBERS = 1 << 20
"""Number of cosines computed at a time: 4 MiB."""
_BLOCK_QUERIES = 64


@dataclass(frozen=True, slots=True)
class Ranking:
    """Options of a search.

    Raises:
        ConfigError: an option has an invalid value.
    """

    calibration: Calibration
    top_k: int | None
    """Largest number of vectors per query; None for all."""
    score_cutoff: float | None
    """Smallest match probability; None for any."""
    rescore: int = 0
    """Number of vectors per query that a pair head decides on, at least ``top_k``; 0 for the cosine alone."""

    def __post_init__(self) -> None:
        check_integer("top_k", self.top_k, none="for all")
        check_number("score_cutoff", self.score_cutoff, none="for any score")
        check_integer("rescore", self.rescore, least=0)

    @property
    def proposing(self) -> Ranking:
        """Return the ranking by cosine that proposes what the head decides on."""
        if not self.rescore:
            return self
        return Ranking(self.calibration, None if self.top_k is None else max(self.top_k, self.rescore), None)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors of texts, and the texts that never match."""

    vectors: NDArray[np.float32]
    """Shape (n, d); may be memory-mapped."""
    never_match: NDArray[np.bool_]
    """True for a text whose pairs all score 0.0, shape (n,)."""

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice) -> Vectors:
        return Vectors(self.vectors[rows], self.never_match[rows])

    def take(self, rows: NDArray[np.int64]) -> Vectors:
        """Return a copy of some rows, in the order given."""
        return Vectors(self.vectors[rows], self.never_match[rows])


@dataclass(frozen=True, slots=True)
class Found:
    """The best vectors for one query, best first; equal ones by index."""

    indices: NDArray[np.int64]
    """Shape (k,)."""
    scores: NDArray[np.float32]
    """Match probabilities, shape (k,)."""


def search(queries: Vectors, candidates: Vectors, ranking: Ranking) -> Iterator[Found]:
    """Find the best candidates for each query, in the order of the queries."""
    # All candidates of many queries at once would not be bounded.
    step = 1 if ranking.top_k is None else _BLOCK_QUERIES
    blank = np.flatnonzero(candidates.never_match)
    first = np.arange(len(candidates) if ranking.top_k is None else min(len(candidates), ranking.top_k))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        rows, indices = _possible(block, candidates, ranking)
        exact = row_cosines(block.vectors, rows, candidates.vectors, indices)
        for row, never in enumerate(block.never_match):
            mine = rows == row
            best = _best(indices[mine], exact[mine], ranking)
            yield _filled(best, first if never else blank, ranking)


def _possible(queries: Vectors, candidates: Vectors, ranking: Ranking) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of ``queries`` and ``candidates`` that can belong together; no other pair can."""
    # Twice the bound, because half-precision models return vectors whose length is not quite 1.
    error = 2 * candidates.vectors.shape[1] * 2.0**-24
    floor = np.full((len(queries), 1), -np.inf, dtype=np.float32)
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    step = max(1, _BLOCK_NUMBERS // max(1, len(queries)))
    for start in range(0, len(candidates), step):
        block = candidates[start : start + step]
        cosines = queries.vectors @ block.vectors.T
        cosines[queries.never_match] = -np.inf
        cosines[:, block.never_match] = -np.inf
        if ranking.top_k is not None and ranking.top_k < cosines.shape[1]:
            # Both the last one within top_k and one that belongs before it may be off.
            last = cosines.shape[1] - ranking.top_k
            floor = np.maximum(floor, np.partition(cosines, last, axis=1)[:, last : last + 1] - 2 * error)
        wanted = (cosines >= floor) & (cosines > -np.inf)
        if ranking.score_cutoff is not None:
            wanted &= ranking.calibration.probability(cosines + error) >= ranking.score_cutoff
        rows, columns = np.nonzero(wanted)
        kept.append((rows, columns + start, cosines[rows, columns]))
    if not kept:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    rows, indices, found = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    still = found >= floor[rows, 0]
    return rows[still], indices[still]


def _best(indices: NDArray[np.int64], cosines: NDArray[np.float32], ranking: Ranking) -> Found:
    order = np.argsort(-cosines, kind="stable")[: ranking.top_k]
    scores = ranking.calibration.probability(cosines[order])
    if ranking.score_cutoff is not None:
        order, scores = order[scores >= ranking.score_cutoff], scores[scores >= ranking.score_cutoff]
    return Found(indices[order], scores)


def _filled(best: Found, rest: NDArray[np.int64], ranking: Ranking) -> Found:
    """Append candidates that score 0.0, up to ``top_k``; they come last, as every other one scores more."""
    rest = rest[: None if ranking.top_k is None else max(0, ranking.top_k - len(best.indices))]
    scores = np.zeros(len(rest), dtype=np.float32)
    if not len(rest) or (ranking.score_cutoff is not None and not (scores >= ranking.score_cutoff).all()):
        return best
    return Found(np.concatenate([best.indices, rest]), np.concatenate([best.scores, scores]))
