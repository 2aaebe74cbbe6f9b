from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from flipkd_sdk.evaluation import cosines
from flipkd_sdk.evaluation.cosines import matrix_blocks, pair_cosines

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unit_vectors(count: int, dimension: int) -> NDArray[np.float32]:
    values = np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)
    lengths: NDArray[np.float32] = np.linalg.norm(values, axis=1, keepdims=True)
    return values / lengths


@pytest.mark.parametrize("dimension", [1, 3, 16, 129, 256])
def test_a_pair_has_the_same_cosine_among_any_other_pairs(dimension: int) -> None:
    vectors = unit_vectors(50, dimension)
    a, b = np.random.default_rng(1).integers(0, 50, size=(2, 300))
    together = pair_cosines(vectors, a, b)
    for start in range(40):
        for count in (1, 2, 3, 17):
            some = slice(start, start + count)
            np.testing.assert_array_equal(pair_cosines(vectors, a[some], b[some]), together[some])
    np.testing.assert_array_equal(pair_cosines(vectors, b, a), together)


def test_cosines_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit_vectors(40, 16)
    a, b = np.random.default_rng(1).integers(0, 40, size=(2, 100))
    whole = pair_cosines(vectors, a, b)
    monkeypatch.setattr(cosines, "_BLOCK_NUMBERS", 100)
    np.testing.assert_array_equal(pair_cosines(vectors, a, b), whole)
    matrix = np.full((15, 25), np.nan, dtype=np.float32)
    for rows, columns, block in matrix_blocks(vectors[:15], vectors[15:]):
        assert np.isnan(matrix[rows, columns]).all()
        matrix[rows, columns] = block
    np.testing.assert_allclose(matrix, vectors[:15] @ vectors[15:].T, atol=1e-6)


def test_memory_beyond_the_result_is_bounded() -> None:
    vectors = unit_vectors(2_000, 64)
    a, b = np.random.default_rng(1).integers(0, 2_000, size=(2, 200_000))
    tracemalloc.start()
    try:
        pair_cosines(vectors, a, b)
        _, of_pairs = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in matrix_blocks(np.repeat(vectors, 3, axis=0), vectors):
            pass
        _, of_matrix = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Blocks take 8 MiB in float64; without them the products alone would take 98 and 92 MiB.
    assert max(of_pairs, of_matrix) < 48 << 20
