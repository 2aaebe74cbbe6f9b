from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import encode

from flipkd_sdk.evaluation.encoders import (
    encoder_agreement,
    encoder_cosines,
    neighbourhood_overlap,
    similarity_error,
)
from flipkd_sdk.pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Sequence


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_cosines_are_those_of_the_pairs_and_each_text_is_encoded_once() -> None:
    pairs = Pairs(("one", "two", "one"), ("two", "three", "three"), np.array([1, 0, 1], np.int8))
    seen: list[str] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return encode(texts)

    cosines = encoder_cosines(counting, pairs)
    expected = [float(encode([a])[0] @ encode([b])[0]) for a, b in zip(pairs.a, pairs.b, strict=True)]
    assert cosines == pytest.approx(expected, abs=1e-6)
    assert sorted(seen) == ["one", "three", "two"]


@given(st.integers(2, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 10_000))
def test_agreement_is_the_correlation_of_the_cosines_of_all_other_texts(n: int, r: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (unit(random.standard_normal((n, width))) for width in (r, d))
    apart = ~np.eye(n, dtype=bool)
    cosines = [(x.astype(np.float64) @ x.T)[apart] for x in (one, other)]
    found = encoder_agreement(one, other)
    if min(values.std() for values in cosines) > 1e-3:
        assert found == pytest.approx(np.corrcoef(*cosines)[0, 1], abs=1e-5)
        assert encoder_agreement(one, one) == pytest.approx(1.0)
    assert abs(found) <= 1 + 1e-9


def test_who_tells_no_texts_apart_agrees_with_nobody() -> None:
    same, apart = np.tile(np.float32([0.6, 0.8]), (4, 1)), np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    assert encoder_agreement(same, apart) == encoder_agreement(apart, same) == 0.0


@given(st.integers(3, 12), st.integers(1, 14), st.integers(0, 10_000))
def test_overlap_is_the_share_of_common_neighbours_and_error_the_mean_squared_difference(
    n: int, neighbours: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    one, other = (unit(random.standard_normal((n, width))) for width in (3, 5))
    size = min(neighbours, n - 1)

    def nearest(vectors: np.ndarray, text: int) -> set[int]:
        order = sorted((i for i in range(n) if i != text), key=lambda i: -float(vectors[i] @ vectors[text]))
        return set(order[:size])

    shares = [len(nearest(one, text) & nearest(other, text)) / size for text in range(n)]
    assert neighbourhood_overlap(one, other, neighbours) == pytest.approx(np.mean(shares))
    assert neighbourhood_overlap(one, one, neighbours) == 1.0
    apart = ~np.eye(n, dtype=bool)
    difference = (one @ one.T - other @ other.T)[apart]
    assert similarity_error(one, other) == pytest.approx(np.square(difference).mean(), rel=1e-4)
    assert similarity_error(one, one) == 0.0


def test_a_single_text_has_no_neighbour_to_miss() -> None:
    assert neighbourhood_overlap(unit(np.ones((1, 2))), unit(np.ones((1, 3))), 10) == 1.0
    assert similarity_error(unit(np.ones((1, 2))), unit(np.ones((1, 3)))) == 0.0
