"""Matchers measured on the same labelled pairs, one alone or two against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.bootstrap import Measured, bootstrap_intervals, mcnemar, summary_intervals
from flipkd_sdk.evaluation.metrics import summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from flipkd_sdk.pairs import Pairs

_LEVEL = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """What a matcher says about the pairs."""

    name: str
    """The directory of the matcher, as the user called it."""
    variant: str
    device: str
    threshold: float
    probability: NDArray[np.float32]
    """Shape (n,)."""

    @property
    def decision(self) -> NDArray[np.bool_]:
        """Which pairs it takes for matches; shape (n,)."""
        return self.probability.astype(np.float64) >= self.threshold


@dataclass(frozen=True, slots=True)
class ChangedPair:
    """A pair that two matchers decide differently."""

    pair: int
    """Its number among the pairs, from 1."""
    a: str
    b: str
    label: int
    score: float
    other_score: float
    gained: bool
    """Whether the other matcher decides it rightly."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A matcher against another one on the same pairs."""

    differences: Measured
    """Measures of the other matcher minus those of the first."""
    changed: tuple[ChangedPair, ...]
    """The pairs that changed sides, those whose scores differ most first."""
    p_value: float
    """Of McNemar's exact test over the pairs that changed sides."""

    @property
    def gained(self) -> int:
        """How many pairs only the other matcher decides rightly."""
        return sum(pair.gained for pair in self.changed)

    @property
    def lost(self) -> int:
        """How many pairs only the first matcher decides rightly."""
        return len(self.changed) - self.gained

    @property
    def verdict(self) -> str:
        """In a sentence, whether one matcher decides more pairs rightly."""
        if not self.changed:
            return "No pair changes sides."
        counts = f"{len(self.changed):,} pairs change sides: {self.gained:,} gained, {self.lost:,} lost"
        sure = "significant" if self.p_value < _LEVEL else "not significant"
        return f"{counts}; {sure} at the level of {_LEVEL} (McNemar's exact test, p = {self.p_value:.2g})."


def measure(scoring: Scoring, label: NDArray[np.int8], *, resamples: int, seed: int) -> Measured:
    """The measures of one matcher."""
    probability, threshold = scoring.probability, scoring.threshold
    intervals = summary_intervals(probability, label, threshold, resamples=resamples, seed=seed)
    return Measured(summary(probability, label, threshold), intervals)


def compare(first: Scoring, other: Scoring, pairs: Pairs, *, resamples: int, seed: int) -> Comparison:
    """Two matchers on the same pairs, each with its own threshold."""

    def differences(p: NDArray[np.float32], q: NDArray[np.float32], label: NDArray[np.int8]) -> Mapping[str, float]:
        before, after = summary(p, label, first.threshold), summary(q, label, other.threshold)
        return {name: after[name] - before[name] for name in before}

    columns = first.probability, other.probability, pairs.label
    intervals = bootstrap_intervals(differences, *columns, resamples=resamples, seed=seed)
    places = np.flatnonzero(first.decision != other.decision)
    by_change = places[np.argsort(-np.abs(first.probability - other.probability)[places], kind="stable")]
    changed = tuple(
        ChangedPair(
            int(i) + 1,
            pairs.a[i],
            pairs.b[i],
            int(pairs.label[i]),
            float(first.probability[i]),
            float(other.probability[i]),
            bool(other.decision[i] == pairs.label[i]),
        )
        for i in by_change
    )
    gained = sum(pair.gained for pair in changed)
    return Comparison(Measured(differences(*columns), intervals), changed, mcnemar(len(changed) - gained, gained))
