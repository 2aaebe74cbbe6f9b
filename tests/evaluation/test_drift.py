from __future__ import annotations

import math

import numpy as np
import pytest

from flipkd_sdk.evaluation.drift import MODERATE, STRONG, Drift, Histogram, histogram, least_values, stability_index

RANDOM = np.random.default_rng(0)
STORED = RANDOM.normal(size=1000)


def drift(stored: np.ndarray, present: np.ndarray) -> Drift:
    made = histogram(stored)
    return Drift(made, made.count(present))


def test_the_index_is_the_sum_over_bins_with_half_a_value_more_in_each() -> None:
    q, p = np.array([10.5, 30.5, 0.5]) / 41.5, np.array([20.5, 20.5, 5.5]) / 46.5
    by_hand = sum((p[i] - q[i]) * math.log(p[i] / q[i]) for i in range(3))
    assert stability_index(np.array([10, 30, 0]), np.array([20, 20, 5])) == pytest.approx(by_hand)


def test_equal_samples_have_an_index_near_0_and_shifted_ones_exceed_the_marks() -> None:
    assert drift(STORED, STORED).psi == pytest.approx(0, abs=1e-9)
    small, large = (drift(STORED, RANDOM.normal(shift, size=1000)) for shift in (0.4, 1.0))
    assert MODERATE < small.psi < STRONG < large.psi
    assert large.exceeds(STRONG)
    assert not small.exceeds(STRONG)


def test_the_index_does_not_depend_on_the_scale_of_the_values() -> None:
    present = RANDOM.normal(0.3, 1.2, size=500)
    curved = drift(1 / (1 + np.exp(-STORED)), 1 / (1 + np.exp(-present)))
    assert curved.psi == pytest.approx(drift(STORED, present).psi, abs=0.02)


def test_without_drift_about_one_sample_in_twenty_exceeds_chance() -> None:
    for size, stored_size in ((100, 1000), (300, 60), (2000, 300)):
        exceeded = [
            found.psi > found.chance
            for found in (drift(RANDOM.normal(size=stored_size), RANDOM.normal(size=size)) for _ in range(300))
        ]
        assert 0.005 < np.mean(exceeded) < 0.1


def test_bins_have_about_as_many_values_and_contain_the_lowest_and_the_highest() -> None:
    made = histogram(STORED)
    assert len(made.counts) == 10
    assert 98 <= made.counts.min() <= made.counts.max() <= 102
    assert (made.edges[0], made.edges[-1]) == (STORED.min(), STORED.max())
    beyond = [STORED.min() - 1, STORED.max() + 1, STORED.max(), STORED.min(), 9e99]
    assert made.count(beyond).tolist() == [1, 1, *[0] * 8, 1, 2]
    assert drift(STORED, np.array(beyond)).outside == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([0.0], [1]),
        ([0.0] * 500, [500]),
        ([1.0, 2.0], [2]),
        ([0.0] * 450 + [0.5] * 50, [450, 50]),
        ([0.2] * 20 + [1.0] * 480, [20, 480]),
    ],
)
def test_a_frequent_value_has_a_bin_of_its_own(values: list[float], counts: list[int]) -> None:
    made = histogram(values)
    assert made.counts.tolist() == counts
    assert made.count(values).tolist() == [0, *counts, 0]


def test_values_that_were_never_there_count_as_outside_also_if_all_were_equal() -> None:
    found = drift(np.zeros(500), np.array([0.0] * 400 + [0.2] * 100))
    assert found.outside == 0.2
    assert found.exceeds(STRONG)


def test_the_least_number_of_values_keeps_chance_below_the_limit() -> None:
    stored = histogram(STORED)
    needed = least_values(stored, STRONG)
    assert 50 < needed < 150
    assert drift(STORED, STORED[:needed]).chance <= STRONG < drift(STORED, STORED[: needed - 2]).chance
    assert least_values(stored, 0.1) > needed


def test_a_small_profile_needs_no_more_values_than_it_has_and_then_chance_decides() -> None:
    small = RANDOM.normal(size=40)
    assert least_values(histogram(small), 0.01) == 40
    found = drift(small, RANDOM.normal(size=40))
    assert found.chance > STRONG
    assert not found.exceeds(0.01) or found.psi > found.chance


@pytest.mark.parametrize(
    ("edges", "counts"),
    [
        ([0.0, 1.0], [0]),
        ([0.0, 1.0], [-1]),
        ([0.0, 0.0], [1]),
        ([1.0, 0.0], [1]),
        ([0.0, math.nan], [1]),
        ([0.0, math.inf], [1]),
        ([0.0], [1]),
        ([0.0, 1.0, 2.0], [1]),
        ([], []),
        (list(map(float, range(100))), [1] * 99),
    ],
)
def test_arrays_that_are_no_histogram_are_refused(edges: list[float], counts: list[int]) -> None:
    with pytest.raises(ValueError):
        Histogram(np.array(edges, np.float64), np.array(counts, np.int64))


def test_figures_are_ready_for_json() -> None:
    figures = drift(STORED, STORED[:100]).to_dict()
    assert (figures["values"], figures["stored_values"], figures["outside"]) == (100, 1000, 0)
    assert len(figures["shares"]) == len(figures["stored_shares"]) == len(figures["edges"]) + 1
    assert sum(figures["shares"]) == pytest.approx(1)
