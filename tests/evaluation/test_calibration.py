from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.evaluation.calibration import Calibration, choose_threshold, fit
from flipkd_sdk.evaluation.metrics import at_threshold

Floats = NDArray[np.float32]
Labels = NDArray[np.int8]

SCORE = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))


@st.composite
def scored(draw: st.DrawFn) -> tuple[Floats, Labels]:
    rows = draw(st.lists(st.tuples(SCORE, st.integers(0, 1)), max_size=30))
    rows = [*rows, (draw(SCORE), 0), (draw(SCORE), 1)]
    return np.array([s for s, _ in rows], np.float32), np.array([y for _, y in rows], np.int8)


def development_pairs(n: int, *, gap: float, seed: int = 0) -> tuple[Floats, Labels]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n).astype(np.int8)
    return (0.4 + gap * label + 0.1 * rng.standard_normal(n)).astype(np.float32), label


@given(st.lists(st.floats(-1, 1, width=32), min_size=2), st.floats(1e-3, 1e4), st.floats(-1e4, 1e4))
def test_probability_is_monotone_and_within_its_range(cosines: list[float], slope: float, intercept: float) -> None:
    probability = Calibration(slope, intercept, 0.5, "f1", 1).probability(np.sort(np.array(cosines, np.float32)))
    assert probability.dtype == np.float32
    assert (probability >= 0).all() and (probability <= 1).all()
    assert (np.diff(probability) >= 0).all()


def test_probability_keeps_the_shape_and_is_the_logistic_curve() -> None:
    cosine = np.array([[0.1, 0.5], [0.9, -1.0]], np.float32)
    probability = Calibration(4.0, -2.0, 0.5, "f1", 1).probability(cosine)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-(4.0 * cosine - 2.0))), rtol=1e-6)


def test_the_fit_is_platts() -> None:
    cosine, label = development_pairs(300, gap=0.15)
    fitted = fit(cosine, label)
    # Platt's smoothed targets are weighted samples of both labels to a plain logistic regression.
    positives, negatives = int(label.sum()), int((1 - label).sum())
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(cosine, 2)[:, None], np.repeat([1, 0], len(cosine)), sample_weight=np.concatenate([target, 1 - target])
    )
    assert fitted.slope == pytest.approx(float(reference.coef_[0, 0]), rel=1e-3)
    assert fitted.intercept == pytest.approx(float(reference.intercept_[0]), rel=1e-3)
    assert fitted.size == 300
    assert fitted.objective == "f1"


@given(scored())
@settings(deadline=None)
def test_any_fit_is_finite_and_rising(data: tuple[Floats, Labels]) -> None:
    cosine, label = data
    try:
        fitted = fit(cosine, label)
    except InvalidPairsError as error:
        assert "does not rise with the label" in str(error)
        return
    assert np.isfinite([fitted.slope, fitted.intercept]).all()
    assert fitted.slope > 0
    assert 0 <= fitted.threshold <= 1


def test_separable_classes_have_a_finite_slope() -> None:
    cosine = np.array([0.1, 0.2, 0.8, 0.9], np.float32)
    fitted = fit(cosine, np.array([0, 0, 1, 1], np.int8))
    probability = fitted.probability(cosine)
    assert np.isfinite(fitted.slope)
    assert probability[1] < fitted.threshold < probability[2]


@given(scored())
@settings(deadline=None)
def test_no_cut_has_a_better_f1(data: tuple[Floats, Labels]) -> None:
    score, label = data
    threshold = choose_threshold(score, label)
    best = max(at_threshold(score, label, float(cut))["f1"] for cut in score)
    assert at_threshold(score, label, threshold)["f1"] == pytest.approx(best)


@given(scored(), st.sampled_from([0.01, 0.5, 0.75, 0.9, 1.0]))
@settings(deadline=None)
def test_the_precision_asked_for_is_reached_with_the_best_recall(data: tuple[Floats, Labels], floor: float) -> None:
    score, label = data
    cuts = [at_threshold(score, label, float(cut)) for cut in score]
    allowed = [cut["recall"] for cut in cuts if cut["precision"] >= floor]
    if not allowed:
        best = max(cut["precision"] for cut in cuts)
        with pytest.raises(ConfigError, match=f"the best precision on the development pairs is {best:.3f}"):
            choose_threshold(score, label, objective=f"precision>={floor}")
        return
    chosen = at_threshold(score, label, choose_threshold(score, label, objective=f"precision>={floor}"))
    assert chosen["precision"] >= floor
    assert chosen["recall"] == pytest.approx(max(allowed))


@given(scored())
@settings(deadline=None)
def test_the_threshold_lies_between_observed_scores(data: tuple[Floats, Labels]) -> None:
    score, label = data
    threshold = choose_threshold(score, label)
    above, below = score[score >= threshold], score[score < threshold]
    assert len(above)
    # Half-way, so that a score which moves in its last digits does not change sides.
    assert threshold == pytest.approx((float(above.min()) + float(below.max(initial=0.0))) / 2)


def test_neighbouring_float64_scores_are_separated() -> None:
    for low in (0.7, float(np.nextafter(0.7, 1))):
        score = np.array([low, np.nextafter(low, 1)])
        threshold = choose_threshold(score, np.array([0, 1]))
        assert score[0] < threshold <= score[1]


@pytest.mark.parametrize(
    "objective",
    ["", "F1", "recall>=0.5", "precision>=", "precision>=high", "precision>=0", "precision>=1.1", "precision>=nan"],
)
def test_unknown_objectives_are_refused(objective: str) -> None:
    cosine, label = development_pairs(20, gap=0.5)
    with pytest.raises(ConfigError, match="precision"):
        fit(cosine, label, objective=objective)


@pytest.mark.parametrize(
    ("cosine", "label", "message"),
    [
        ([0.1, 0.2], [1, 1], "both labels"),
        ([0.1, 0.2], [0, 0], "both labels"),
        ([], [], "both labels"),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], "does not rise with the label"),
        ([0.5, 0.5, 0.5], [0, 1, 1], "does not rise with the label"),
        ([0.3, 0.3, 0.3], [0, 0, 1], "does not rise with the label"),
        ([0.1, float("nan"), 0.9], [0, 0, 1], "not a finite number"),
    ],
)
def test_pairs_that_cannot_be_calibrated_on_are_refused(cosine: list[float], label: list[int], message: str) -> None:
    with pytest.raises(InvalidPairsError, match=message):
        fit(np.array(cosine, np.float32), np.array(label, np.int8))
