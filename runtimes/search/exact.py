"""Exact search: the best of many vectors for a query, with the very scores that pairs get.

A product in float32 is fast and reads a memory-mapped file as it is, but adds up in an order that depends on shapes.
Its error is bounded, though: for unit vectors of d numbers by about d·2⁻²⁴ (Higham, Accuracy and Stability of Numerical
Algorithms, 3.1). So the product only finds the vectors that can be among the best, and those few are scored again as
pairs are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.runtimes.search.similarity import row_cosines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from flipkd_sdk.evaluation.calibration import Calibration

_BLOCK_NUMBERS = 1 << 20
"""Cosines computed at a time: 4 MiB."""
_BLOCK_QUERIES = 64


@dataclass(frozen=True, slots=True)
class Ranking:
    """Which vectors are wanted.

    Raises:
        ConfigError: ``top_k`` is less than 1.
    """

    calibration: Calibration
    top_k: int | None
    """Most vectors per query; None for all."""
    score_cutoff: float | None
    """Least match probability; None for any."""

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, or None for all; it is {self.top_k}")


@dataclass(frozen=True, slots=True)
class Found:
    """The best vectors for one query, best first; equal ones in the order that they stand in."""

    places: NDArray[np.int64]
    """Shape (k,)."""
    scores: NDArray[np.float32]
    """Match probabilities, shape (k,)."""


def search(queries: NDArray[np.float32], vectors: NDArray[np.float32], ranking: Ranking) -> Iterator[Found]:
    """The best vectors for each query, in the order of the queries.

    Args:
        queries: unit vectors, shape (q, d).
        vectors: unit vectors, shape (n, d); may be memory-mapped.
        ranking: what is wanted.
    """
    # All of the vectors for many queries at once would not be bounded.
    step = 1 if ranking.top_k is None else _BLOCK_QUERIES
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        rows, places = _possible(some, vectors, ranking)
        exact = row_cosines(some, rows, vectors, places)
        for row in range(len(some)):
            mine = rows == row
            yield _best(places[mine], exact[mine], ranking)


def _possible(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], ranking: Ranking
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``queries`` and places in ``vectors`` that can belong together; no other couple can."""
    # Twice the bound, as half-precision models give vectors that are not quite of length one.
    error = 2 * vectors.shape[1] * 2.0**-24
    floor = np.full((len(queries), 1), -np.inf, dtype=np.float32)
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    step = max(1, _BLOCK_NUMBERS // max(1, len(queries)))
    for start in range(0, len(vectors), step):
        cosines = queries @ vectors[start : start + step].T
        if ranking.top_k is not None and ranking.top_k < cosines.shape[1]:
            # Both the last one within top_k and one that belongs before it may be off.
            last = cosines.shape[1] - ranking.top_k
            floor = np.maximum(floor, np.partition(cosines, last, axis=1)[:, last : last + 1] - 2 * error)
        wanted = cosines >= floor
        if ranking.score_cutoff is not None:
            wanted &= ranking.calibration.probability(cosines + error) >= ranking.score_cutoff
        rows, columns = np.nonzero(wanted)
        kept.append((rows, columns + start, cosines[rows, columns]))
    if not kept:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    rows, places, found = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    still = found >= floor[rows, 0]
    return rows[still], places[still]


def _best(places: NDArray[np.int64], cosines: NDArray[np.float32], ranking: Ranking) -> Found:
    order = np.argsort(-cosines, kind="stable")[: ranking.top_k]
    scores = ranking.calibration.probability(cosines[order])
    if ranking.score_cutoff is not None:
        order, scores = order[scores >= ranking.score_cutoff], scores[scores >= ranking.score_cutoff]
    return Found(places[order], scores)
