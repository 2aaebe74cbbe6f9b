"""Measures of one matcher on labelled pairs, and of two matchers on the same pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.bootstrap import Measured, bootstrap_intervals, mcnemar, summary_intervals
from flipkd_sdk.evaluation.metrics import summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.pairs import Pairs

_LEVEL = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """Scores of a matcher for the pairs."""

    name: str
    """Directory of the matcher, as on the command line."""
    variant: str
    device: str
    threshold: float
    probability: NDArray[np.float32]
    """Shape (n,)."""
    manifest: Manifest

    @property
    def decision(self) -> NDArray[np.bool_]:
        """Return True for each pair called a match, shape (n,)."""
        return self.probability.astype(np.float64) >= self.threshold


@dataclass(frozen=True, slots=True)
class ChangedPair:
    """A pair that two matchers decide differently."""

    pair: int
    """Number of the pair, from 1."""
    a: str
    b: str
    label: int
    score: float
    other_score: float
    gained: bool
    """True if the other matcher is right, False if the first one is."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences between two matchers on the same pairs."""

    differences: Measured
    """Measures of the other matcher minus those of the first."""
    changed: tuple[ChangedPair, ...]
    """Pairs that the two decide differently, the largest difference of scores first."""
    p_value: float
    """p-value of McNemar's exact test over these pairs."""

    @property
    def gained(self) -> int:
        """Return the number of pairs that only the other matcher decides correctly."""
        return sum(pair.gained for pair in self.changed)

    @property
    def lost(self) -> int:
        """Return the number of pairs that only the first matcher decides correctly."""
        return len(self.changed) - self.gained

    @property
    def verdict(self) -> str:
        """Return the result of McNemar's test as a sentence."""
        if not self.changed:
            return "No pair changes sides."
        counts = f"{len(self.changed):,} pairs change sides: {self.gained:,} gained, {self.lost:,} lost"
        sure = "significant" if self.p_value < _LEVEL else "not significant"
        return f"{counts}; {sure} at the level of {_LEVEL} (McNemar's exact test, p = {self.p_value:.2g})."


def measure(scoring: Scoring, label: NDArray[np.int8], *, resamples: int, seed: int) -> Measured:
    """Measure one matcher at its own threshold."""
    probability, threshold = scoring.probability, scoring.threshold
    intervals = summary_intervals(probability, label, threshold, resamples=resamples, seed=seed)
    return Measured(summary(probability, label, threshold), intervals)


def compare(first: Scoring, other: Scoring, pairs: Pairs, *, resamples: int, seed: int) -> Comparison:
    """Compare two matchers on the same pairs, each at its own threshold."""

    def differences(p: NDArray[np.float32], q: NDArray[np.float32], label: NDArray[np.int8]) -> Mapping[str, float]:
        before, after = summary(p, label, first.threshold), summary(q, label, other.threshold)
        return {name: after[name] - before[name] for name in before}

    columns = first.probability, other.probability, pairs.label
    intervals = bootstrap_intervals(differences, *columns, resamples=resamples, seed=seed)
    rows = np.flatnonzero(first.decision != other.decision)
    by_change = rows[np.argsort(-np.abs(first.probability - other.probability)[rows], kind="stable")]
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
