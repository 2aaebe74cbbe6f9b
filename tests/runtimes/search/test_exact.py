from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import CALIBRATION

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation.cosines import row_cosines
from flipkd_sdk.runtimes.search import exact as search_module
from flipkd_sdk.runtimes.search.exact import Found, Ranking, Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unit_vectors(random: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    values = random.standard_normal((count, dimension)).astype(np.float32)
    lengths: NDArray[np.float32] = np.linalg.norm(values, axis=1, keepdims=True)
    return values / lengths


def search(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    ranking: Ranking,
    never: tuple[list[int], list[int]] = ([], []),
) -> list[Found]:
    """Search, with the indices of the queries and the vectors that never match."""
    sides = [Vectors(values, np.zeros(len(values), dtype=bool)) for values in (queries, vectors)]
    for side, indices in zip(sides, never, strict=True):
        side.never_match[indices] = True
    return list(search_module.search(*sides, ranking))


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
    blank=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_search_finds_what_comparing_with_all_vectors_finds(
    seed: int,
    count: int,
    queries: int,
    top_k: int | None,
    score_cutoff: float | None,
    block: int,
    alike: bool,
    blank: float,
) -> None:
    random = np.random.default_rng(seed)
    vectors = (near_copies if alike else unit_vectors)(random, count, 48)
    vectors = np.concatenate([vectors, vectors[: count // 2]])
    asked = unit_vectors(random, queries, 48)
    never = tuple(np.flatnonzero(random.random(size) < blank).tolist() for size in (queries, len(vectors)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "_BLOCK_NUMBERS", block)
        patch.setattr(search_module, "_BLOCK_QUERIES", 2)
        found = search(asked, vectors, Ranking(CALIBRATION, top_k, score_cutoff), never)
    assert len(found) == queries
    for query, best in enumerate(found):
        indices = np.arange(len(vectors))
        cosines = row_cosines(asked, np.full(len(vectors), query), vectors, indices)
        cosines[indices if query in never[0] else never[1]] = -np.inf
        scores = CALIBRATION.probability(cosines)
        order = sorted(indices, key=lambda index: (-cosines[index], index))
        expected = [index for index in order if score_cutoff is None or scores[index] >= score_cutoff][:top_k]
        assert best.indices.tolist() == expected
        np.testing.assert_array_equal(best.scores, scores[expected])


def test_texts_that_never_match_are_not_scored_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    rescored = []
    monkeypatch.setattr(
        search_module, "row_cosines", lambda *sides: rescored.append(len(sides[1])) or row_cosines(*sides)
    )
    vectors, queries = unit_vectors(random, 5000, 48), unit_vectors(random, 3, 48)
    (first, second, third) = search(queries, vectors, Ranking(CALIBRATION, 10, None), ([1], list(range(4995))))
    assert sum(rescored) == 10
    assert first.indices.tolist()[5:] == third.indices.tolist()[5:] == [0, 1, 2, 3, 4]
    assert (second.indices.tolist(), second.scores.tolist()) == (list(range(10)), [0.0] * 10)


def test_only_the_best_are_scored_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    computed = []

    def watch(left: object, a: NDArray[np.int64], right: object, b: NDArray[np.int64]) -> NDArray[np.float32]:
        computed.append(len(a))
        return row_cosines(left, a, right, b)  # type: ignore[arg-type]

    monkeypatch.setattr(search_module, "row_cosines", watch)
    search(unit_vectors(random, 3, 48), unit_vectors(random, 5000, 48), Ranking(CALIBRATION, 10, None))
    assert sum(computed) < 3 * 12


def test_blocks_bound_the_memory_of_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks bound what is computed at a time, whatever the numbers of queries and candidates."""
    monkeypatch.setattr(search_module, "_BLOCK_NUMBERS", 1000)
    sizes = []
    real = np.partition

    def watch(values: NDArray[np.float32], *arguments: int, **options: int) -> NDArray[np.float32]:
        sizes.append(values.size)
        return real(values, *arguments, **options)

    monkeypatch.setattr(np, "partition", watch)
    random = np.random.default_rng(0)
    search(unit_vectors(random, 100, 8), unit_vectors(random, 3000, 8), Ranking(CALIBRATION, 2, None))
    assert max(sizes) <= 1000


def test_top_k_must_be_at_least_one() -> None:
    with pytest.raises(ConfigError, match="top_k must be an integer of at least 1, or None for all; it is 0"):
        Ranking(CALIBRATION, 0, None)
