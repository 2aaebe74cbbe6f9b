"""`Chooser`: the next pair to label, and what the labels so far say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import FlipKDError
from flipkd_sdk.evaluation.calibration import fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flipkd_sdk.cli.labelling.pool import Pool

NEAR, RANDOM = "near", "random"
_NEAREST = 200
"""Pairs nearest to the threshold, of which the one least like the labelled pairs is chosen."""
_ENOUGH = 8
"""Matches, and non-matches, from which on the labels move the threshold."""


class Chooser:
    """Chooses pairs of a pool.

    Most are near the threshold, where a label teaches most (Lewis & Gale, 1994), and among those the one whose texts
    are least like those labelled before. The others are drawn at random from the pairs above the threshold, so that
    their share of matches estimates the precision without bias. After a few labels of both kinds, the threshold follows
    them.

    Args:
        pool: the pairs.
        threshold: value from which on a pair counts as a match.
        random_share: share of random pairs.
        seed: of the draw.
    """

    def __init__(self, pool: Pool, threshold: float, *, random_share: float, seed: int) -> None:
        self.pool = pool
        self.threshold = threshold
        self._start = threshold
        self._random_share = random_share
        self._seed = seed
        self._open = np.ones(len(pool), dtype=np.bool_)
        self._likeness = np.full(len(pool), -1.0, dtype=np.float32)

    def close(self, row: int) -> None:
        """Leave out a pair from now on, and prefer pairs unlike it."""
        self._open[row] = False
        pool = self.pool
        for vectors in (pool.vectors_a, pool.vectors_b):
            for labelled in (pool.vectors_a[row], pool.vectors_b[row]):
                self._likeness = np.maximum(self._likeness, vectors @ labelled)

    def reopen(self, row: int) -> None:
        """Offer a pair again."""
        self._open[row] = True

    def follow(self, values: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        """Move the threshold to where the labels so far change."""
        self.threshold = self._start
        if min(labels.sum(), (1 - labels).sum()) < _ENOUGH:
            return
        try:
            curve = fit(values, labels)
        except FlipKDError:
            return  # The values do not rise with the labels yet.
        self.threshold = (math.log(curve.threshold / (1 - curve.threshold)) - curve.intercept) / curve.slope

    def choose(self, done: int) -> tuple[int, str] | None:
        """Return the next pair and why it was chosen; None if all are labelled.

        Args:
            done: number of answers so far, which continues the draw after a restart.
        """
        left = np.flatnonzero(self._open)
        if not len(left):
            return None
        random = np.random.default_rng([self._seed, done])
        if random.random() < self._random_share:
            matches = left[self.pool.values[left] >= self.threshold]
            if len(matches):
                return int(random.choice(matches)), RANDOM
        distance = np.abs(self.pool.values[left] - self.threshold)
        near = left[np.argsort(distance, kind="stable")[:_NEAREST]]
        return int(near[np.argmin(self._likeness[near])]), NEAR
