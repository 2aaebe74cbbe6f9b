from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import CALIBRATION

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.runtimes.search import exact as search_module
from flipkd_sdk.runtimes.search.exact import Ranking, search
from flipkd_sdk.runtimes.search.similarity import row_cosines

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unit_vectors(random: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    values = random.standard_normal((count, dimension)).astype(np.float32)
    lengths: NDArray[np.float32] = np.linalg.norm(values, axis=1, keepdims=True)
    return values / lengths


def near_copies(random: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    """Vectors so close to each other that a product in float32 cannot tell their order."""
    values = unit_vectors(random, 1, dimension) + random.standard_normal((count, dimension)) * 3e-8
    return values.astype(np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 70),
    queries=st.integers(0, 5),
    top_k=st.one_of(st.none(), st.integers(1, 80)),
    score_cutoff=st.one_of(st.none(), st.floats(0, 1)),
    block=st.sampled_from([1, 7, 64, 1 << 20]),
    alike=st.booleans(),
)
def test_it_finds_what_comparing_with_all_of_them_finds(
    seed: int, count: int, queries: int, top_k: int | None, score_cutoff: float | None, block: int, alike: bool
) -> None:
    random = np.random.default_rng(seed)
    vectors = (near_copies if alike else unit_vectors)(random, count, 48)
    vectors = np.concatenate([vectors, vectors[: count // 2]])
    asked = unit_vectors(random, queries, 48)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "_BLOCK_NUMBERS", block)
        patch.setattr(search_module, "_BLOCK_QUERIES", 2)
        found = list(search(asked, vectors, Ranking(CALIBRATION, top_k, score_cutoff)))
    assert len(found) == queries
    for query, best in enumerate(found):
        places = np.arange(len(vectors))
        cosines = row_cosines(asked, np.full(len(vectors), query), vectors, places)
        scores = CALIBRATION.probability(cosines)
        order = sorted(places, key=lambda place: (-cosines[place], place))
        expected = [place for place in order if score_cutoff is None or scores[place] >= score_cutoff][:top_k]
        assert best.places.tolist() == expected
        np.testing.assert_array_equal(best.scores, scores[expected])


def test_only_the_best_are_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    computed = []

    def watch(left: object, a: NDArray[np.int64], right: object, b: NDArray[np.int64]) -> NDArray[np.float32]:
        computed.append(len(a))
        return row_cosines(left, a, right, b)  # type: ignore[arg-type]

    monkeypatch.setattr(search_module, "row_cosines", watch)
    list(search(unit_vectors(random, 3, 48), unit_vectors(random, 5000, 48), Ranking(CALIBRATION, 10, None)))
    assert sum(computed) < 3 * 12


def test_no_number_of_candidates_is_held_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks bound what is computed at a time, whatever the numbers of queries and candidates."""
    monkeypatch.setattr(search_module, "_BLOCK_NUMBERS", 1000)
    sizes = []
    real = np.partition

    def watch(values: NDArray[np.float32], *arguments: int, **options: int) -> NDArray[np.float32]:
        sizes.append(values.size)
        return real(values, *arguments, **options)

    monkeypatch.setattr(np, "partition", watch)
    random = np.random.default_rng(0)
    list(search(unit_vectors(random, 100, 8), unit_vectors(random, 3000, 8), Ranking(CALIBRATION, 2, None)))
    assert max(sizes) <= 1000


def test_the_number_wanted_is_checked() -> None:
    with pytest.raises(ConfigError, match="top_k must be at least 1, or None for all; it is 0"):
        Ranking(CALIBRATION, 0, None)
