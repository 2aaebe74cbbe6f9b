from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.evaluation.searches import fit_search_threshold, measure_answers, search
from flipkd_sdk.runtimes.matcher import Matcher

if TYPE_CHECKING:
    from pathlib import Path


def test_the_lowest_threshold_that_is_right_often_enough_is_taken() -> None:
    score = np.array([0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32)
    right = np.array([1, 1, 1, 0, 1, 0, 0], bool)
    fitted = fit_search_threshold(score, right, precision=0.8)
    assert fitted.threshold == pytest.approx(0.55)
    assert (fitted.precision, fitted.searches, fitted.answered) == (0.8, 7, 5)


def test_equal_scores_are_not_separated() -> None:
    score = np.array([0.9] * 4 + [0.8] * 4, np.float32)
    right = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool)
    assert fit_search_threshold(score, right, precision=0.8).answered == 4


def test_a_few_right_answers_at_the_top_are_no_proof() -> None:
    score = np.linspace(1, 0, 60, dtype=np.float32)
    right = np.arange(60) < 18
    with pytest.raises(InvalidPairsError, match="19 with a right best candidate are needed, found 18 in 60"):
        fit_search_threshold(score, right)
    right = np.array([i < 10 or (i > 10 and i % 2) for i in range(60)], bool)
    with pytest.raises(ConfigError, match="with at least 19 answers; the best one has 0"):
        fit_search_threshold(score, right)


@pytest.mark.parametrize("precision", [0.0, 1.0, -1.0, float("nan")])
def test_a_precision_outside_the_open_interval_is_refused(precision: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        fit_search_threshold(np.ones(30, np.float32), np.ones(30, bool), precision=precision)


def test_answers_are_counted_at_the_threshold() -> None:
    score, right = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([1, 0, 0, 0], bool)
    measured = measure_answers(score, right, np.array([1, 1, 0, 0], bool), 0.65)
    assert (measured.given, measured.precision, measured.coverage, measured.false_answers) == (3, 1 / 3, 1.0, 0.5)
    nothing = measure_answers(score, right, np.ones(4, bool), 0.95)
    assert (nothing.given, nothing.precision, nothing.coverage, nothing.false_answers) == (0, None, 0.0, None)


def test_a_search_finds_what_rank_finds_and_leaves_out_what_it_may_not_find(tiny_matcher: Path) -> None:
    texts = ["How do I reset my card PIN?", "Top up", "Is there a fee for cash abroad?", "Where is my transfer?", ""]
    queries = ["reset the PIN", "a fee abroad", "my transfer"]
    with Matcher.load(tiny_matcher, device="cpu") as matcher:
        found = search(matcher, queries, texts).best
        for query, index, score in zip(queries, found.index.tolist(), found.score.tolist(), strict=True):
            (best,) = matcher.rank(query, texts, top_k=1)
            assert (index, score) == (best.index, pytest.approx(best.score, abs=1e-6))
        again = search(matcher, queries, texts, [[index] for index in found.index.tolist()]).best
        nothing = search(matcher, queries, texts, [range(5)] * 3).best
    assert (again.index != found.index).all()
    assert (nothing.score == -1).all()
