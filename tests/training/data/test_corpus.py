from __future__ import annotations

import numpy as np
import pytest
from sklearn.random_projection import GaussianRandomProjection

from flipkd_sdk.training.data.corpus import alignment_targets


def unit(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    # A few directions carry most of it, as in a real encoder.
    vectors *= 0.8 ** np.arange(columns, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_targets_of_equal_dimension_are_the_vectors() -> None:
    vectors = unit(20, 8)
    assert np.array_equal(alignment_targets(vectors, 8), vectors)


def test_targets_of_more_dimensions_keep_every_inner_product() -> None:
    vectors = unit(20, 8)
    targets = alignment_targets(vectors, 12)
    assert targets.shape == (20, 12)
    assert np.array_equal(targets @ targets.T, vectors @ vectors.T)


def test_targets_of_fewer_dimensions_are_unit_vectors_that_keep_inner_products_best() -> None:
    vectors = unit(200, 24)
    targets = alignment_targets(vectors, 8)
    assert targets.shape == (200, 8)
    assert targets.dtype == np.float32
    assert np.linalg.norm(targets, axis=1) == pytest.approx(np.ones(200), abs=1e-5)

    def error(candidate: np.ndarray) -> float:
        candidate = candidate / np.linalg.norm(candidate, axis=1, keepdims=True)
        return float(np.square(candidate @ candidate.T - vectors @ vectors.T).mean())

    others = [GaussianRandomProjection(8, random_state=seed).fit_transform(vectors) for seed in range(5)]
    others += [vectors[:, 8:16], vectors[:, -8:]]
    assert error(targets) < 0.2 * min(map(error, others))


def test_a_vector_that_projects_to_nothing_stays_finite() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 1, 2]]
    assert np.isfinite(alignment_targets(vectors, 2)).all()
