from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from flipkd_sdk.evaluation import metrics

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

# Few distinct values, so that ties are the rule; and any float32, as a matcher gives.
TIED = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
SCORE = st.one_of(TIED, st.floats(0, 1, width=32))


@st.composite
def scored(draw: st.DrawFn, *, both: bool = True) -> tuple[Floats, Labels]:
    rows = draw(st.lists(st.tuples(SCORE, st.integers(0, 1)), min_size=2, max_size=40))
    if both:
        rows = [*rows, (draw(SCORE), 0), (draw(SCORE), 1)]
    return np.array([s for s, _ in rows]), np.array([y for _, y in rows], np.int8)


@given(scored())
def test_average_precision_and_auc_agree_with_scikit_learn(data: tuple[Floats, Labels]) -> None:
    score, label = data
    assert metrics.average_precision(score, label) == pytest.approx(
        sklearn_metrics.average_precision_score(label, score)
    )
    assert metrics.roc_auc(score, label) == pytest.approx(sklearn_metrics.roc_auc_score(label, score))


@given(scored())
def test_the_curve_agrees_with_scikit_learn(data: tuple[Floats, Labels]) -> None:
    score, label = data
    precision, recall = metrics.precision_recall_curve(score, label)
    expected_precision, expected_recall, thresholds = sklearn_metrics.precision_recall_curve(label, score)
    assert len(precision) == len(thresholds) == len(np.unique(score))
    np.testing.assert_allclose(precision, expected_precision[:-1][::-1])
    np.testing.assert_allclose(recall, expected_recall[:-1][::-1])


@given(scored(both=False), st.one_of(TIED, st.floats(0, 1)))
def test_decisions_agree_with_scikit_learn(data: tuple[Floats, Labels], threshold: float) -> None:
    score, label = data
    predicted = score >= threshold
    assert metrics.at_threshold(score, label, threshold) == pytest.approx(
        {
            "accuracy": sklearn_metrics.accuracy_score(label, predicted),
            "precision": sklearn_metrics.precision_score(label, predicted, zero_division=0),
            "recall": sklearn_metrics.recall_score(label, predicted, zero_division=0),
            "f1": sklearn_metrics.f1_score(label, predicted, zero_division=0),
        }
    )


def test_a_threshold_between_neighbouring_float32_scores_separates_them() -> None:
    for start in (np.float32(0.7), np.nextafter(np.float32(0.7), np.float32(1))):
        score = np.array([start, np.nextafter(start, np.float32(1))], np.float32)
        threshold = float(score.astype(np.float64).mean())
        assert metrics.at_threshold(score, np.array([0, 1]), threshold)["accuracy"] == 1.0


def average_ranks(values: Floats) -> Floats:
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    ranks: Floats = below + (equal + 1) / 2
    return ranks


@given(st.lists(st.tuples(SCORE, SCORE), min_size=2, max_size=40))
def test_spearman_is_the_correlation_of_mean_ranks(rows: list[tuple[float, float]]) -> None:
    x, y = np.array(rows).T
    if len(np.unique(x)) == 1 or len(np.unique(y)) == 1:
        assert math.isnan(metrics.spearman(x, y))
        return
    expected = np.corrcoef(average_ranks(x), average_ranks(y))[0, 1]
    assert metrics.spearman(x, y) == pytest.approx(expected, abs=1e-12)


@given(scored())
def test_the_summary_has_the_measures_as_they_are_alone(data: tuple[Floats, Labels]) -> None:
    score, label = data
    found = metrics.summary(score, label, 0.5)
    alone = {name: getattr(metrics, name)(score, label) for name in ("average_precision", "roc_auc", "spearman")}
    assert {name: found[name] for name in alone} == pytest.approx(alone, abs=1e-12, nan_ok=True)


def test_agreement_is_what_a_change_does_to_rank_value_and_quality() -> None:
    reference, label = np.array([0.9, 0.4, 0.5, 0.1], np.float32), np.array([1, 1, 0, 0], np.int8)
    moved = reference + np.array([0.0, 0.2, -0.05, 0.0], np.float32)
    assert metrics.agreement(moved, reference, label) == pytest.approx(
        {"spearman": 0.8, "max_cosine_change": 0.2, "average_precision_change": 1 - 5 / 6}
    )


@given(scored(both=False), st.integers(1, 12))
@settings(deadline=None)
def test_calibration_error_is_the_weighted_gap_of_the_bins(data: tuple[Floats, Labels], bins: int) -> None:
    probability, label = data
    expected = 0.0
    for k in range(bins):
        inside = (probability * bins >= k) & ((probability * bins < k + 1) | (k == bins - 1))
        if inside.any():
            expected += inside.mean() * abs(probability[inside].mean() - label[inside].mean())
    assert metrics.calibration_error(probability, label, bins=bins) == pytest.approx(expected, abs=1e-12)


def test_reliability_is_the_mean_of_each_bin() -> None:
    score, rate = metrics.reliability_curve(np.array([0.0, 0.04, 0.55, 1.0], np.float32), np.array([0, 1, 1, 1]))
    np.testing.assert_allclose(score, [0.02, 0.55, 1.0], rtol=1e-6)
    assert rate.tolist() == [0.5, 1.0, 1.0]


def test_measures_without_one_of_the_classes_are_not_numbers_and_do_not_warn() -> None:
    score = np.array([0.1, 0.9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(metrics.average_precision(score, np.array([0, 0])))
        assert math.isnan(metrics.roc_auc(score, np.array([0, 0])))
        assert math.isnan(metrics.roc_auc(score, np.array([1, 1])))
        assert metrics.average_precision(score, np.array([1, 1])) == 1.0


def test_summary_holds_every_measure() -> None:
    score, label = np.array([0.95, 0.8, 0.2], np.float32), np.array([1, 0, 0], np.int8)
    assert metrics.summary(score, label, 0.5) == pytest.approx(
        {
            "accuracy": 2 / 3,
            "precision": 0.5,
            "recall": 1.0,
            "f1": 2 / 3,
            "average_precision": 1.0,
            "roc_auc": 1.0,
            "spearman": 3**0.5 / 2,
            "calibration_error": (0.05 + 0.8 + 0.2) / 3,
        }
    )
