"""A sketch of the training texts: centroids of their vectors, and the similarities of texts held out from training.

The similarity of a text to the training texts is its cosine with the nearest centroid. Centroids come from spherical
k-means (Dhillon & Modha, "Concept decompositions for large sparse text data using clustering", 2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.arrays import read_arrays, write_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILE = "familiarity.npz"
MAX_BYTES = 1 << 23
_WHAT = "the familiarity sketch of this matcher"
CENTROIDS = 256
"""Most centroids: half a kilobyte to a kilobyte each."""
_TEXTS_PER_CENTROID = 4
"""Fewer texts would make each text its own centroid."""
_ROUNDS = 25
_LEVELS = 101
_UNIT = 1e-2
"""Largest distance from 1 of a centroid's length; they are stored in float16."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Centroids of the training texts' vectors, and the distribution of similarities of held-out texts.

    Raises:
        ValueError: an array has another type or shape, or numbers that it cannot have.
    """

    centroids: NDArray[np.float16]
    """Unit vectors, shape (k, d)."""
    quantiles: NDArray[np.float32]
    """Similarities of held-out texts at the quantiles 0, 0.01, …, 1, shape (101,)."""

    def __post_init__(self) -> None:
        if self.centroids.dtype != np.float16 or self.quantiles.dtype != np.float32:
            raise ValueError("centroids that are not float16, or quantiles that are not float32")
        if self.centroids.ndim != 2 or not self.centroids.size or self.quantiles.shape != (_LEVELS,):
            raise ValueError(f"shapes {self.centroids.shape} and {self.quantiles.shape}")
        # Written so that NaN fails.
        lengths = np.linalg.norm(self.centroids.astype(np.float32), axis=1)
        if not (np.abs(lengths - 1) <= _UNIT).all():
            raise ValueError("centroids that are not unit vectors")
        if not ((np.diff(self.quantiles) >= 0).all() and np.isfinite(self.quantiles).all()):
            raise ValueError("quantiles that do not rise")

    @property
    def dimension(self) -> int:
        """Return the dimension of the vectors."""
        return int(self.centroids.shape[1])

    def similarity(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine of each unit vector with its nearest centroid, shape (n,)."""
        return _nearest(vectors, self.centroids.astype(np.float32))[1]

    def quantile(self, similarity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the share of held-out texts with a lower similarity, in [0, 1], shape (n,)."""
        return np.interp(similarity, self.quantiles, np.linspace(0, 1, _LEVELS)).astype(np.float32)


def fit_sketch(train: NDArray[np.float32], held_out: NDArray[np.float32], *, seed: int = 0) -> Sketch:
    """Make a sketch; the same vectors and seed give the same one.

    Args:
        train: unit vectors of training texts, shape (n, d), n > 0.
        held_out: unit vectors of texts of the same kind that were not trained on, shape (m, d), m > 0.
        seed: of the first centroids.
    """
    count = max(1, min(CENTROIDS, len(train) // _TEXTS_PER_CENTROID))
    random = np.random.default_rng(seed)
    centroids = train[random.choice(len(train), count, replace=False)].astype(np.float32)
    for _ in range(_ROUNDS):
        assigned, similarity = _nearest(train, centroids)
        sums = np.zeros_like(centroids)
        np.add.at(sums, assigned, train)
        # A centroid without texts becomes the text that is worst represented.
        empty = np.flatnonzero(np.bincount(assigned, minlength=count) == 0)
        sums[empty] = train[np.argsort(similarity, kind="stable")[: len(empty)]]
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        moved = np.where(lengths > 0, sums / np.maximum(lengths, np.finfo(np.float32).tiny), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    stored = centroids.astype(np.float16)
    similarity = _nearest(held_out, stored.astype(np.float32))[1]
    return Sketch(stored, np.quantile(similarity, np.linspace(0, 1, _LEVELS)).astype(np.float32))


def write_sketch(path: Path, sketch: Sketch) -> None:
    """Write a sketch; the same one gives the same bytes."""
    write_arrays(path, sketch)


def read_sketch(path: Path, *, dimension: int) -> Sketch:
    """Read the sketch of a matcher whose vectors have a dimension.

    Raises:
        MatcherDirectoryError: the file is missing, malformed, or belongs to other vectors.
    """
    return read_arrays(Sketch, path, what=_WHAT, dimension=dimension, largest=MAX_BYTES)


def _nearest(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the index of each vector's nearest centroid, and their cosine."""
    # One row at a time would be slow, and all at once is not bounded.
    index, cosine = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    step = max(1, (1 << 20) // len(centroids))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step] @ centroids.T
        index[start : start + step] = block.argmax(axis=1)
        cosine[start : start + step] = block.max(axis=1)
    return index, cosine
