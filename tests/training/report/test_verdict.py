from __future__ import annotations

import numpy as np
import pytest
from tiny_models import tiny_pairs

from flipkd_sdk.evaluation import metrics
from flipkd_sdk.evaluation.evaluate import Evaluation, advantage, evaluate_scores
from flipkd_sdk.training.report.verdict import conclude


def system(noise: float, *, test: bool = True, count: int = 400, seed: int = 0) -> Evaluation:
    """Scores that rise with the label, with as much noise."""

    def score(pairs: object) -> np.ndarray:
        label = pairs.label  # type: ignore[attr-defined]
        return (0.4 * label + random.normal(0, noise, len(label))).astype(np.float32)

    random = np.random.default_rng(seed)
    return evaluate_scores(score, tiny_pairs(count), tiny_pairs(count, 1) if test else None, objective="f1")


@pytest.mark.parametrize(
    ("student", "teacher", "expected", "advice"),
    [
        (0.2, 0.5, "surpasses its teacher", "It can be exported"),
        (0.5, 0.2, "falls short of its teacher", "To close the gap, add unlabelled texts"),
        (0.3, 0.3, "matches its teacher", "It can be exported"),
    ],
)
def test_the_headline_follows_from_the_interval_of_the_difference(
    student: float, teacher: float, expected: str, advice: str
) -> None:
    systems = {"teacher": system(teacher, seed=1), "student": system(student, seed=2)}
    headline, (against, decisions, *_, next_step) = conclude(systems, "test")
    assert headline == f"The student {expected}."
    difference, interval = advantage(systems["student"], systems["teacher"], "test")
    reached = [systems[name].measures["test"]["average_precision"] for name in ("student", "teacher")]
    assert difference == pytest.approx(reached[0] - reached[1])
    assert interval.low <= difference <= interval.high
    figures = f"precision is {reached[0]:.3f}, its teacher's {reached[1]:.3f}: a difference of {difference:+.3f} "
    assert against.startswith("On the 400 test pairs ")
    assert f"{figures}(95% interval {interval.low:+.3f} to {interval.high:+.3f})" in against
    assert (interval.low > 0, interval.high < 0) == ("surpasses" in expected, "short" in expected)
    assert f"It decides {systems['student'].measures['test']['accuracy']:.1%} of the pairs correctly " in decisions
    assert next_step.startswith(advice)


def test_the_difference_is_taken_pair_by_pair() -> None:
    student = system(0.3)
    difference, interval = advantage(student, student, "dev")
    assert (difference, interval.low, interval.high) == (0, 0, 0)
    assert student.intervals["dev"]["average_precision"].low < metrics.average_precision(
        student.cosines["dev"], student.labels["dev"]
    )


def test_a_missing_teacher_missing_test_pairs_and_few_pairs_are_named() -> None:
    headline, (against, *_, advice) = conclude({"student": system(0.3, test=False, count=24)}, "dev")
    assert headline == "The student was measured without a teacher."
    assert "On the 24 dev pairs" in against
    assert "There are no test pairs" in advice
    assert "too few" in advice
    assert "too few" not in conclude({"student": system(0.2)}, "test")[1][-1]
