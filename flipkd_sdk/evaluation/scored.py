"""Scores of one system for labelled pairs: confusion counts at any threshold, and the pairs worth reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of one system for n labelled pairs."""

    name: str
    probability: NDArray[np.float32]
    """Shape (n,)."""
    label: NDArray[np.integer]
    """1 for a match, 0 for a non-match, shape (n,)."""

    def at_least(self, thresholds: NDArray[np.float64], label: int) -> NDArray[np.int64]:
        """Return the number of pairs of a label with a score of at least each threshold, shape (k,)."""
        # In float64, as at_threshold compares.
        scores = np.sort(self.probability[self.label == label].astype(np.float64))
        return len(scores) - np.searchsorted(scores, thresholds, side="left")


@dataclass(frozen=True, slots=True)
class Confusion:
    """Decisions at a threshold, in counts."""

    found: int
    """Matches that are called matches."""
    missed: int
    """Matches that are not called matches."""
    false: int
    """Non-matches that are called matches."""
    rejected: int
    """Non-matches that are not called matches."""


def confusion(scored: Scored, threshold: float) -> Confusion:
    """Count the decisions at a threshold."""
    cut = np.array([threshold])
    found, false = (int(scored.at_least(cut, label)[0]) for label in (1, 0))
    matches = int(scored.label.sum())
    return Confusion(found, matches - found, false, len(scored.label) - matches - false)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Row numbers of pairs worth reading; each field is shape (k,)."""

    false: NDArray[np.intp]
    """Non-matches called matches, the highest score first."""
    missed: NDArray[np.intp]
    """Matches not called matches, the lowest score first."""
    borderline: NDArray[np.intp]
    """The scores nearest to the threshold, right or wrong."""
    right_matches: NDArray[np.intp]
    """Matches called matches, the highest score first."""
    right_others: NDArray[np.intp]
    """Non-matches not called matches, the lowest score first."""


def choose_examples(scored: Scored, threshold: float, count: int) -> Examples:
    """Return at most ``count`` rows of each kind; equal scores keep the order of the pairs."""
    score = scored.probability.astype(np.float64)
    called, match = score >= threshold, scored.label == 1

    def rows(chosen: NDArray[np.bool_], order: NDArray[np.float64]) -> NDArray[np.intp]:
        found = np.flatnonzero(chosen)
        return found[np.argsort(order[found], kind="stable")][:count]

    return Examples(
        rows(called & ~match, -score),
        rows(~called & match, score),
        rows(np.ones(len(score), dtype=bool), np.abs(score - threshold)),
        rows(called & match, -score),
        rows(~called & ~match, score),
    )
