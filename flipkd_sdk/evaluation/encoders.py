"""Measures of an encoder: its cosines of pairs, and its agreement with another encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.cosines import pair_cosines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.pairs import Pairs

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]
    """n texts → unit vectors (n, d)."""


def encoder_cosines(encode: Encode, pairs: Pairs) -> NDArray[np.float32]:
    """Return the cosine of each pair, float32 (n,); each distinct text is encoded once."""
    return vector_cosines(encode(pairs.texts), pairs)


def vector_cosines(vectors: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float32]:
    """Return the cosine of each pair, float32 (n,), from the unit vectors of ``pairs.texts``."""
    index = {text: i for i, text in enumerate(pairs.texts)}
    a, b = (np.array([index[text] for text in side], np.int64) for side in (pairs.a, pairs.b))
    return pair_cosines(vectors, a, b)


def similarity_error(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the mean squared difference of two encoders' cosines over all pairs i ≠ j of n texts; 0 of one text."""
    difference = one @ one.T - other @ other.T
    np.fill_diagonal(difference, 0)
    return float(np.square(difference, dtype=np.float64).sum()) / max(len(one) * (len(one) - 1), 1)


def neighbourhood_overlap(one: NDArray[np.float32], other: NDArray[np.float32], neighbours: int) -> float:
    """Return the mean share of a text's nearest neighbours that both encoders agree on.

    Args:
        one: unit vectors, float32 (n, r).
        other: unit vectors of the same texts, float32 (n, d).
        neighbours: size of a neighbourhood; all other texts at most.

    Returns:
        In [0, 1]; 1 of a single text.
    """
    count = min(neighbours, len(one) - 1)
    if count < 1:
        return 1.0

    def nearest(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -np.inf)
        chosen = np.zeros(cosines.shape, dtype=bool)
        np.put_along_axis(chosen, np.argpartition(-cosines, count - 1, axis=1)[:, :count], values=True, axis=1)
        return chosen

    return float((nearest(one) & nearest(other)).sum()) / (count * len(one))


def encoder_agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the correlation of two encoders' cosines over all pairs i ≠ j of n texts.

    It uses no label and n(n−1) cosines, so it varies far less by chance than a measure of n / 2 labelled pairs. The
    sums over the cosines come from the matrices ZᵀZ, ZᵀT and TᵀT, because Σᵢⱼ (zᵢ·zⱼ)(tᵢ·tⱼ) = ‖ZᵀT‖².

    Args:
        one: unit vectors z, float32 (n, r).
        other: unit vectors t of the same texts, float32 (n, d); d and r may differ.

    Returns:
        Pearson's correlation, in [−1, 1]; 0 if the cosines of one encoder are all equal.

    Reference:
        Kriegeskorte et al., "Representational similarity analysis", 2008.
    """
    # Unit length in double precision, so that the n cosines with i = j are exactly the 1 that is subtracted.
    z, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one.astype(np.float64), other.astype(np.float64)))
    count = len(z) * (len(z) - 1)

    def mean(x: NDArray[np.float64]) -> float:
        return float(np.square(x.sum(axis=0)).sum() - len(x)) / count

    def covariance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return float(np.square(x.T @ y).sum() - len(x)) / count - mean(x) * mean(y)

    variances = covariance(z, z), covariance(t, t)
    return 0.0 if min(variances) < 1e-12 else covariance(z, t) / float(np.sqrt(variances[0] * variances[1]))
