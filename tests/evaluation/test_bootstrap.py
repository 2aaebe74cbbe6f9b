from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.evaluation.bootstrap import (
    Interval,
    bootstrap_intervals,
    chance_of_gain,
    mcnemar,
    summary_intervals,
)
from flipkd_sdk.evaluation.metrics import summary

stats = pytest.importorskip("scipy.stats")


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_pairs_is_a_number() -> None:
    assert mcnemar(40_000, 41_000) == pytest.approx(stats.binomtest(40_000, 81_000).pvalue, rel=1e-6)


def test_the_interval_of_a_mean_is_the_one_that_scipy_finds() -> None:
    values = np.random.default_rng(1).exponential(size=200)
    found = bootstrap_intervals(lambda x: {"mean": float(x.mean())}, values, resamples=4000)["mean"]
    expected = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_columns_are_resampled_together_and_a_seed_repeats_it() -> None:
    values = np.arange(50.0)

    def difference(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        return {"difference": float((x - y).mean()), "mean": float(x.mean())}

    found = [bootstrap_intervals(difference, values, values + 1, resamples=50, seed=seed) for seed in (3, 3, 4)]
    assert found[0]["difference"] == Interval(-1.0, -1.0)
    assert found[0] == found[1]
    assert found[0]["mean"] != found[2]["mean"]


def test_resamples_without_a_measure_do_not_count() -> None:
    def share(x: np.ndarray) -> dict[str, float]:
        return {"known": 1.0 if x.sum() else math.nan, "unknown": math.nan}

    found = bootstrap_intervals(share, np.array([0, 1]), resamples=40)
    assert found["known"] == Interval(1.0, 1.0)
    assert math.isnan(found["unknown"].low)
    assert bootstrap_intervals(share, np.array([0, 1]), resamples=0) == {}


def test_intervals_of_a_summary_are_those_of_its_measures_whatever_the_order_of_the_pairs() -> None:
    random = np.random.default_rng(0)
    label = np.repeat([0, 1], 40).astype(np.int8)
    score = np.clip(0.3 * label + random.uniform(0, 0.7, 80), 0, 1).astype(np.float32)
    found = summary_intervals(score, label, 0.5, resamples=200)
    measured = summary(score, label, 0.5)
    assert found.keys() == measured.keys()
    assert all(found[name].low <= value <= found[name].high for name, value in measured.items() if name[0] != "c")
    assert all(interval.low < interval.high for interval in found.values())
    mixed = random.permutation(80)
    assert summary_intervals(score[mixed], label[mixed], 0.5, resamples=200) == found


def test_a_gain_is_certain_that_every_resample_shows_and_open_that_half_of_them_show() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 2, 300)
    good, noise = label + random.normal(0, 0.5, 300), random.normal(0, 1, 300)
    assert chance_of_gain(good, noise, label) == 1.0
    assert chance_of_gain(noise, good, label) == 0.0
    assert chance_of_gain(good, good, label) == 0.0
    assert 0.02 < chance_of_gain(good + random.normal(0, 0.05, 300), good, label) < 0.98
