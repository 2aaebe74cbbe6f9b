"""How sure a measured figure is: bootstrap intervals, and McNemar's exact test for two systems on the same pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.metrics import average_precision, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a measure of other pairs of the same kind would lie, with a confidence of `CONFIDENCE`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Measures by name, and how sure they are."""

    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    """By the same names; empty if none were asked for."""


def bootstrap_intervals(
    measures: Callable[..., Mapping[str, float]], *columns: NDArray[np.generic], resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Percentile intervals of measures under resampling of pairs with replacement (Efron, 1979).

    Pairs count as independent of each other. Where many share a text, the true intervals are wider.

    Args:
        measures: takes resampled columns and gives measures by name; NaN where a resample has none.
        columns: what it takes, each of shape (n,); quickest if the first is sorted.
        resamples: how often to resample.
        seed: the same seed gives the same intervals.
    """
    random = np.random.default_rng(seed)
    size = len(columns[0])
    found: dict[str, list[float]] = {}
    for _ in range(resamples):
        # The order of a resample does not matter; in this one, what was sorted stays so.
        chosen = np.sort(random.integers(size, size=size))
        for name, value in measures(*(column[chosen] for column in columns)).items():
            found.setdefault(name, []).append(value)
    tail = 50 * (1 - CONFIDENCE)
    return {name: Interval(*_percentiles(values, tail, 100 - tail)) for name, values in found.items()}


def summary_intervals(
    probability: NDArray[np.floating],
    label: NDArray[np.integer],
    threshold: float,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return `bootstrap_intervals` of all measures of `metrics.summary` at a fixed threshold."""
    order = np.argsort(probability)
    return bootstrap_intervals(
        lambda score, truth: summary(score, truth, threshold),
        probability[order],
        label[order],
        resamples=resamples,
        seed=seed,
    )


def precision_gain(
    scores: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]], label: NDArray[np.integer]
) -> tuple[float, Interval]:
    """Average precision of one system minus another's on the same pairs, with the interval of the difference.

    Args:
        scores: those of the one and of the other, each of shape (n,); of several seeds one couple for each, and the
            mean counts.
        label: shape (n,).
    """

    def gain(label: NDArray[np.integer], *columns: NDArray[np.floating]) -> dict[str, float]:
        precision = [average_precision(column, label) for column in columns]
        return {"gain": fmean(precision[::2]) - fmean(precision[1::2])}

    columns = [column for couple in scores for column in couple]
    return gain(label, *columns)["gain"], bootstrap_intervals(gain, label, *columns)["gain"]


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test: do two systems err equally often?

    Args:
        only_first: pairs that only the first system decides rightly.
        only_second: pairs that only the second system decides rightly.

    Returns:
        Probability of a difference at least as large if the two were equally good; 1 where they never differ.
    """
    size, fewer = only_first + only_second, min(only_first, only_second)
    constant = math.lgamma(size + 1) - size * math.log(2)
    tail = sum(math.exp(constant - math.lgamma(k + 1) - math.lgamma(size - k + 1)) for k in range(fewer + 1))
    return min(1.0, 2 * tail)


def _percentiles(values: list[float], low: float, high: float) -> tuple[float, float]:
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return math.nan, math.nan
    bounds = np.percentile(known, [low, high])
    return float(bounds[0]), float(bounds[1])
