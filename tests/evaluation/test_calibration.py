from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.evaluation.calibration import Calibration, check_enough_pairs, choose_threshold, fit
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
        with pytest.raises(ConfigError, match=f"the best precision on these pairs is {best:.3f}"):
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
    [
        "",
        "F1",
        "accuracy>=0.5",
        "recall>=2",
        "precision>=",
        "precision>=high",
        "precision>=0",
        "precision>=1.1",
        "precision>=nan",
    ],
)
def test_unknown_objectives_are_refused(objective: str) -> None:
    cosine, label = development_pairs(20, gap=0.5)
    with pytest.raises(ConfigError, match="objective"):
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


@given(scored(), st.sampled_from([0.01, 0.5, 0.75, 0.9, 1.0]))
@settings(deadline=None)
def test_the_recall_asked_for_is_reached_with_the_best_precision(data: tuple[Floats, Labels], floor: float) -> None:
    score, label = data
    cuts = [at_threshold(score, label, float(cut)) for cut in score]
    chosen = at_threshold(score, label, choose_threshold(score, label, objective=f"recall>={floor}"))
    assert chosen["recall"] >= floor
    assert chosen["precision"] == pytest.approx(max(cut["precision"] for cut in cuts if cut["recall"] >= floor))


@given(scored(), st.integers(1, 30), st.sampled_from(["f1", "recall>=0.7"]))
@settings(deadline=None)
def test_a_lower_prior_chooses_as_if_every_non_match_occurred_more_often(
    data: tuple[Floats, Labels], times: int, objective: str
) -> None:
    score, label = data
    positives, negatives = int(label.sum()), int((label == 0).sum())
    copies = np.where(label == 1, 1, times)
    many, labels = np.repeat(score, copies), np.repeat(label, copies)
    prior = positives / (positives + times * negatives)
    chosen = choose_threshold(score, label, objective=objective, prior=prior)
    expected = choose_threshold(many, labels, objective=objective)
    measure = "f1" if objective == "f1" else "precision"
    assert at_threshold(many, labels, chosen)[measure] == pytest.approx(at_threshold(many, labels, expected)[measure])


@given(st.integers(0, 50), st.floats(1e-6, 0.999))
@settings(deadline=None)
def test_a_prior_moves_every_logit_by_the_change_of_the_log_odds(seed: int, prior: float) -> None:
    cosine, label = development_pairs(60, gap=0.2, seed=seed)
    plain, moved = fit(cosine, label), fit(cosine, label, prior=prior)
    share = float(label.mean())
    assert moved.slope == plain.slope
    assert moved.intercept - plain.intercept == pytest.approx(np.log(prior / (1 - prior)) - np.log(share / (1 - share)))
    assert moved.has_prior and not plain.has_prior
    assert moved.objective == f"f1 at prior {prior:g}"


def test_probabilities_of_a_prior_are_calibrated_for_pairs_with_that_share_of_matches() -> None:
    cosine, label = development_pairs(4000, gap=0.2)
    used, used_label = development_pairs(200_000, gap=0.2, seed=1)
    rare = (used_label == 0) | (np.arange(len(used)) % 20 == 0)
    used, used_label = used[rare], used_label[rare]
    corrected = fit(cosine, label, prior=float(used_label.mean())).probability(used)
    plain = fit(cosine, label).probability(used)
    assert corrected.mean() == pytest.approx(used_label.mean(), rel=0.1)
    assert plain.mean() > 2 * used_label.mean()


def test_the_precision_asked_for_holds_at_the_prior() -> None:
    cosine, label = development_pairs(4000, gap=0.4)
    fitted = fit(cosine, label, objective="precision>=0.9", prior=0.01)
    chosen = fitted.probability(cosine).astype(np.float64) >= fitted.threshold
    found, false = 0.01 * chosen[label == 1].mean(), 0.99 * chosen[label == 0].mean()
    assert found / (found + false) >= 0.9
    assert chosen.sum() > 100


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_prior_outside_its_range_is_refused(prior: float) -> None:
    cosine, label = development_pairs(20, gap=0.5)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        fit(cosine, label, prior=prior)


@pytest.mark.parametrize(
    ("objective", "prior", "matches", "others"),
    [
        ("precision>=0.95", None, 19, 1),
        ("precision>=0.9", None, 9, 1),
        ("precision>=0.95", 0.01, 1, 1881),
        ("precision>=0.5", 0.5, 1, 1),
        ("recall>=0.9", None, 10, 1),
        ("recall>=0.9", 0.01, 10, 1),
    ],
)
def test_pairs_are_enough_if_one_error_leaves_the_objective_in_reach(
    objective: str, prior: float | None, matches: int, others: int
) -> None:
    label = np.array([1] * matches + [0] * others, np.int8)
    check_enough_pairs(label, objective=objective, prior=prior)
    goal, least = objective.split(">=")
    # One error: the lowest match is missed, or one non-match is called a match.
    if goal == "recall":
        assert (matches - 1) / matches >= float(least) - 1e-12
        assert (matches - 2) / (matches - 1) < float(least)
        return
    share = matches / len(label) if prior is None else prior
    one = share / (share + (1 - share) / others)
    assert one >= float(least) - 1e-12
    if max(matches, others) > 1:
        fewer = label[1:] if prior is None else label[:-1]
        needed = matches if prior is None else others
        with pytest.raises(InvalidPairsError, match=f"{needed:,} .*matches are needed, found {needed - 1:,}"):
            check_enough_pairs(fewer, objective=objective, prior=prior)


def test_a_precision_or_recall_of_one_cannot_be_shown() -> None:
    label = np.array([0, 1] * 1000, np.int8)
    for goal in ("precision", "recall"):
        with pytest.raises(InvalidPairsError, match=f"no number of pairs shows a {goal} of 1"):
            check_enough_pairs(label, objective=f"{goal}>=1")


def test_pairs_of_one_label_are_never_enough() -> None:
    with pytest.raises(InvalidPairsError, match="both labels"):
        check_enough_pairs(np.ones(100, np.int8), objective="f1")
