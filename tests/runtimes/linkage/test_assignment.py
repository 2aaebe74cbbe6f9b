from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from flipkd_sdk.runtimes.linkage import assignment
from flipkd_sdk.runtimes.linkage.assignment import Matches, assign


def matches(*rows: tuple[int, int, float]) -> Matches:
    a, b, score = zip(*rows, strict=True)
    return Matches(np.array(a), np.array(b), np.array(score, dtype=np.float32))


def best_sum(found: Matches) -> float:
    """Highest sum of any set of pairs without a common row, by trying all."""
    rows = list(zip(found.a.tolist(), found.b.tolist(), found.score.tolist(), strict=True))
    return max(
        sum(score for _, _, score in chosen)
        for size in range(len(rows) + 1)
        for chosen in itertools.combinations(rows, size)
        if len({a for a, _, _ in chosen}) == len({b for _, b, _ in chosen}) == size
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_sum_of_scores_is_the_highest(seed: int) -> None:
    random = np.random.default_rng(seed)
    pairs = random.permutation([(i, j) for i in range(4) for j in range(5)])[:10]
    found = Matches(pairs[:, 0], pairs[:, 1], random.random(10).astype(np.float32))
    numbers = assign(found, np.ones(4, np.int64), np.ones(5, np.int64))
    assert set(numbers.tolist()) <= {0, 1}
    assert len(set(found.a[numbers > 0].tolist())) == len(set(found.b[numbers > 0].tolist())) == numbers.sum()
    assert (found.score * numbers).sum() == pytest.approx(best_sum(found))


def test_a_row_takes_its_second_choice_where_that_is_better_for_all() -> None:
    found = matches((0, 0, 0.9), (0, 1, 0.8), (1, 0, 0.85))
    assert assign(found, np.ones(2, np.int64), np.ones(2, np.int64)).tolist() == [0, 1, 1]


@pytest.mark.parametrize("reason", ["no scipy", "too large"])
def test_otherwise_the_highest_score_comes_first(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    if reason == "no scipy":
        monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    else:
        monkeypatch.setattr(assignment, "_MOST_CELLS", 3)
    found = matches((0, 0, 0.9), (0, 1, 0.8), (1, 0, 0.85))
    assert assign(found, np.ones(2, np.int64), np.ones(2, np.int64)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("cells", [1 << 22, 0])
def test_equal_rows_are_assigned_by_their_number(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(assignment, "_MOST_CELLS", cells)
    found = matches((0, 0, 0.9), (0, 1, 0.8))
    assert assign(found, np.array([3]), np.array([1, 5])).tolist() == [1, 2]
    million = np.array([1_000_000])
    assert assign(matches((0, 0, 0.9)), million, million).tolist() == [1_000_000]


def test_no_match_needs_no_assignment() -> None:
    nothing = np.empty(0, np.int64)
    assert len(assign(Matches(nothing, nothing, np.empty(0, np.float32)), nothing, nothing)) == 0
