from __future__ import annotations

import numpy as np
import pytest

from flipkd_sdk.evaluation.metrics import at_threshold
from flipkd_sdk.evaluation.scored import Scored, choose_examples, confusion

rng = np.random.default_rng(0)
SCORED = Scored("m", np.round(rng.random(200), 2).astype(np.float32), rng.integers(0, 2, 200))


@pytest.mark.parametrize("threshold", [0.0, 0.25, float(np.float32(0.33)), 0.5, 1.0])
def test_counts_are_those_behind_the_measures(threshold: float) -> None:
    counts = confusion(SCORED, threshold)
    measures = at_threshold(SCORED.probability, SCORED.label, threshold)
    assert counts.found + counts.missed + counts.false + counts.rejected == 200
    assert (counts.found + counts.rejected) / 200 == measures["accuracy"]
    assert counts.found / max(counts.found + counts.missed, 1) == measures["recall"]
    assert counts.found / max(counts.found + counts.false, 1) == measures["precision"]


def test_a_score_equal_to_the_threshold_is_a_match() -> None:
    scored = Scored("m", np.array([0.3], np.float32), np.array([1]))
    assert confusion(scored, float(np.float32(0.3))).found == 1
    assert confusion(scored, 0.3).found == int(float(np.float32(0.3)) >= 0.3)


def test_examples_are_sorted_by_how_telling_they_are() -> None:
    chosen = choose_examples(SCORED, 0.5, 6)
    score = SCORED.probability
    assert [len(rows) for rows in (chosen.false, chosen.missed, chosen.borderline)] == [6, 6, 6]
    assert all(SCORED.label[chosen.false] == 0) and all(score[chosen.false] >= 0.5)
    assert score[chosen.false[0]] == score[(SCORED.label == 0)].max()
    assert all(SCORED.label[chosen.missed] == 1) and all(score[chosen.missed] < 0.5)
    assert score[chosen.missed[0]] == score[(SCORED.label == 1)].min()
    distance = np.abs(score - 0.5)
    assert distance[chosen.borderline].max() <= np.sort(distance)[5]
    assert all(SCORED.label[chosen.right_matches] == 1) and all(score[chosen.right_matches] >= 0.5)
    assert all(SCORED.label[chosen.right_others] == 0) and all(score[chosen.right_others] < 0.5)


def test_there_may_be_no_example_of_a_kind() -> None:
    chosen = choose_examples(Scored("m", np.array([0.9], np.float32), np.array([1])), 0.5, 3)
    assert (len(chosen.false), len(chosen.missed), len(chosen.borderline), len(chosen.right_matches)) == (0, 0, 1, 1)
