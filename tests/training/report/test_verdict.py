from __future__ import annotations

import numpy as np
import pytest
from tiny_models import tiny_pairs

from flipkd_sdk.evaluation import metrics
from flipkd_sdk.training.evaluation import Evaluation, advantage, evaluate_scores
from flipkd_sdk.training.report.verdict import verdict


def system(noise: float, *, test: bool = True, count: int = 400, seed: int = 0) -> Evaluation:
    """Scores that rise with the label, with as much noise."""

    def score(pairs: object) -> np.ndarray:
        label = pairs.label  # type: ignore[attr-defined]
        return (0.4 * label + random.normal(0, noise, len(label))).astype(np.float32)

    random = np.random.default_rng(seed)
    return evaluate_scores(score, tiny_pairs(count), tiny_pairs(count, 1) if test else None, objective="f1")


@pytest.mark.parametrize(
    ("student", "teacher", "said", "advice"),
    [
        (0.2, 0.5, "surpasses its teacher", "It can be exported"),
        (0.5, 0.2, "falls short of its teacher", "To close the gap, add unlabelled texts"),
        (0.3, 0.3, "matches its teacher", "It can be exported"),
    ],
)
def test_the_student_is_set_against_its_teacher(student: float, teacher: float, said: str, advice: str) -> None:
    systems = {"teacher": system(teacher, seed=1), "student": system(student, seed=2)}
    against, decisions, next_step = verdict(systems, "test")
    assert against.startswith(f"The student {said} on the 400 test pairs: average precision ")
    difference, interval = advantage(systems["student"], systems["teacher"], "test")
    found = [systems[name].measures["test"]["average_precision"] for name in ("student", "teacher")]
    assert difference == pytest.approx(found[0] - found[1])
    assert interval.low <= difference <= interval.high
    assert f"{found[0]:.3f} against {found[1]:.3f}, a difference of {difference:+.3f} " in against
    assert f"(95% interval {interval.low:+.3f} to {interval.high:+.3f})" in against
    assert (interval.low > 0, interval.high < 0) == ("surpasses" in said, "short" in said)
    accuracy = systems["student"].measures["test"]["accuracy"]
    assert f"it decides {accuracy:.1%} of the pairs rightly (95% interval " in decisions
    assert next_step.startswith(advice)


def test_the_difference_is_taken_pair_by_pair() -> None:
    student = system(0.3)
    difference, interval = advantage(student, student, "dev")
    assert (difference, interval.low, interval.high) == (0, 0, 0)
    assert student.intervals["dev"]["average_precision"].low < metrics.average_precision(
        student.cosines["dev"], student.labels["dev"]
    )


def test_without_a_teacher_or_test_pairs_it_says_so() -> None:
    against, _, advice = verdict({"student": system(0.3, test=False, count=24)}, "dev")
    assert "on the 24 dev pairs; no teacher was measured." in against
    assert "There are no test pairs" in advice
    assert "too few to be sure" in advice
    assert "too few" not in verdict({"student": system(0.2)}, "test")[2]
