"""Uncertainty of measures: bootstrap intervals, and McNemar's exact test for two systems on the same pairs."""

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
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """Bootstrap confidence interval of a measure, with a confidence of `CONFIDENCE`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Measures by name, with their intervals."""

    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    """Intervals by the same names; empty if they were not computed."""


def bootstrap_intervals(
    measures: Callable[..., Mapping[str, float]],
    *columns: NDArray[np.generic],
    resamples: int | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute percentile intervals of measures by resampling pairs with replacement (Efron, 1979).

    Pairs are assumed independent. If many share a text, the true intervals are wider.

    Args:
        measures: maps resampled columns to measures by name; NaN for a measure that a resample does not define.
        columns: arguments of ``measures``, each of shape (n,); fastest if the first is sorted.
        resamples: number of resamples; the default is `RESAMPLES`.
        seed: the same seed gives the same intervals.
    """
    random = np.random.default_rng(seed)
    size = len(columns[0])
    samples: dict[str, list[float]] = {}
    for _ in range(RESAMPLES if resamples is None else resamples):
        # The order of a resample does not matter. This one keeps sorted columns sorted, which makes ranking fast.
        chosen = np.sort(random.integers(size, size=size))
        for name, value in measures(*(column[chosen] for column in columns)).items():
            samples.setdefault(name, []).append(value)
    tail = 50 * (1 - CONFIDENCE)
    return {name: Interval(*_percentiles(values, tail, 100 - tail)) for name, values in samples.items()}


def summary_intervals(
    probability: NDArray[np.floating],
    label: NDArray[np.integer],
    threshold: float,
    *,
    resamples: int | None = None,
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
    """Return one system's average precision minus another's on the same pairs, with the interval of the difference.

    Args:
        scores: the scores of both systems, each of shape (n,), for each seed; the mean over the seeds is compared.
        label: shape (n,).
    """

    def gain(label: NDArray[np.integer], *columns: NDArray[np.floating]) -> dict[str, float]:
        precision = [average_precision(column, label) for column in columns]
        return {"gain": fmean(precision[::2]) - fmean(precision[1::2])}

    columns = [column for pair in scores for column in pair]
    return gain(label, *columns)["gain"], bootstrap_intervals(gain, label, *columns)["gain"]


def chance_of_gain(
    one: NDArray[np.floating], other: NDArray[np.floating], label: NDArray[np.integer], *, seed: int = 0
) -> float:
    """Return the share of resamples in which one system's average precision is above another's on the same pairs.

    Args:
        one: scores of shape (n,).
        other: scores of the other system, shape (n,).
        label: shape (n,).
        seed: seed of the resamples.
    """
    random, size = np.random.default_rng(seed), len(label)
    wins = []
    for _ in range(RESAMPLES):
        chosen = random.integers(size, size=size)
        if 0 < label[chosen].sum() < size:
            first, second = (average_precision(scores[chosen], label[chosen]) for scores in (one, other))
            wins.append(first > second)
    return fmean(wins) if wins else 0.0


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test of two systems' errors.

    Args:
        only_first: number of pairs that only the first system decides correctly.
        only_second: number of pairs that only the second system decides correctly.

    Returns:
        Probability of a difference at least as large if the two were equally good; 1 if they never differ.
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
