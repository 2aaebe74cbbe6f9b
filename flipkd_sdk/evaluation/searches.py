"""Searches with known answers, and the threshold of their best candidates.

In a search nearly all comparisons are non-matches, and only the best one is looked at. So its threshold is fitted on
best candidates, and not on pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.evaluation.calibration import SearchThreshold, fewest_for_precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.evaluation.calibration import Calibration

_BLOCK = 1 << 22
"""Cosines in memory at a time: 16 MiB of float32."""
_PROPOSED = 10
"""Candidates that a pair head decides on, as by default in `Matcher.rank`."""
_LEFT_OUT = -2.0
"""Below every cosine."""


class Scorer(Protocol):
    """The part of a `Matcher` that a search needs."""

    @property
    def calibration(self) -> Calibration:
        """Map from cosines to match probabilities."""

    @property
    def has_head(self) -> bool:
        """True if a pair head decides on pairs."""

    def encode(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (n, d)."""

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.float32]:
        """Return match probabilities, shape (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Best candidates of n searches."""

    index: NDArray[np.int64]
    """Index of the best candidate, shape (n,)."""
    score: NDArray[np.float32]
    """Its match probability, shape (n,); −1 where every candidate was left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Searches:
    """Best candidates of the same searches by the cosine alone, and by the pair head if there is one."""

    cosine: Found
    head: Found | None

    @property
    def best(self) -> Found:
        """Best candidates as `Matcher.rank` returns them."""
        return self.head or self.cosine


@dataclass(frozen=True, slots=True)
class Answers:
    """Measures of the answers that searches give at a threshold."""

    threshold: float
    given: int
    """Number of searches with an answer."""
    precision: float | None
    """Share of right answers among those given; None if none was given."""
    coverage: float
    """Share of the searches with a right candidate that give an answer."""
    false_answers: float | None
    """Share of the searches without a right candidate that give an answer; None if there are none."""


def measure_answers(
    score: NDArray[np.float32], right: NDArray[np.bool_], answerable: NDArray[np.bool_], threshold: float
) -> Answers:
    """Measure the answers at a threshold.

    Args:
        score: of the best candidates, shape (n,).
        right: True for a right one, shape (n,).
        answerable: True for a search that has a right candidate, shape (n,).
        threshold: least score of an answer.
    """
    given = score.astype(np.float64) >= threshold
    return Answers(
        threshold=threshold,
        given=int(given.sum()),
        precision=float(right[given].mean()) if given.any() else None,
        coverage=float(given[answerable].mean()) if answerable.any() else 0.0,
        false_answers=None if answerable.all() else float(given[~answerable].mean()),
    )


def search(
    scorer: Scorer, queries: Sequence[str], candidates: Sequence[str], left_out: Sequence[Iterable[int]] | None = None
) -> Searches:
    """Return the best candidate of each query as `Matcher.rank` does: the cosine proposes ten, and the head decides.

    Args:
        scorer: a matcher.
        queries: n texts.
        candidates: at least one text.
        left_out: per query, the indices of candidates that it may not find; None for none.
    """
    vectors, offered = scorer.encode(queries), scorer.encode(candidates)
    shape = len(queries), min(_PROPOSED, len(candidates))
    proposed, cosine = np.empty(shape, np.int64), np.empty(shape, np.float32)
    rows = max(1, _BLOCK // len(candidates))
    for start in range(0, len(queries), rows):
        for row, found in enumerate(vectors[start : start + rows] @ offered.T, start):
            if left_out is not None:
                found[list(left_out[row])] = _LEFT_OUT
            proposed[row] = np.argsort(-found, kind="stable")[: shape[1]]
            cosine[row] = found[proposed[row]]
    left = cosine == _LEFT_OUT
    by_cosine = _best(proposed, scorer.calibration.probability(cosine), left)
    if not scorer.has_head:
        return Searches(by_cosine, None)
    pairs = ((query, candidates[i]) for query, row in zip(queries, proposed.tolist(), strict=True) for i in row)
    return Searches(by_cosine, _best(proposed, scorer.score_pairs(pairs).reshape(shape), left))


def _best(proposed: NDArray[np.int64], score: NDArray[np.float32], left_out: NDArray[np.bool_]) -> Found:
    score = np.where(left_out, np.float32(-1.0), score)
    best, each = score.argmax(axis=1), np.arange(len(score))
    return Found(proposed[each, best], score[each, best])


def fit_search_threshold(
    score: NDArray[np.float32], right: NDArray[np.bool_], *, precision: float = 0.95
) -> SearchThreshold:
    """Choose the least score of an answer, so that at least ``precision`` of the answers are right.

    Of the thresholds that reach the precision, the lowest one is taken: it answers most. It is half-way between two
    neighbouring scores. There must be so many answers that one more wrong answer leaves the precision within reach.

    Args:
        score: of the best candidates, shape (n,).
        right: True for a right one, shape (n,).
        precision: share of right answers, in (0, 1).

    Raises:
        InvalidPairsError: there are too few searches for the precision; the message names the number needed.
        ConfigError: the precision is not in (0, 1), or no threshold reaches it.
    """
    fewest = fewest_for_precision(precision)
    if right.sum() < fewest:
        raise InvalidPairsError(
            f"too few searches for a precision of {precision:g}: {fewest:,} with a right best candidate are needed, "
            f"found {int(right.sum()):,} in {len(score):,}; give more queries, or ask for less"
        )
    order = np.argsort(-score.astype(np.float64), kind="stable")
    ranked = score.astype(np.float64)[order]
    share = np.cumsum(right[order]) / np.arange(1, len(ranked) + 1)
    # No threshold separates equal scores.
    possible = np.append(ranked[:-1] > ranked[1:], True) & (np.arange(1, len(ranked) + 1) >= fewest)
    reached = np.flatnonzero(possible & (share >= precision))
    if not len(reached):
        raise ConfigError(
            f"no search threshold reaches a precision of {precision:g} with at least {fewest:,} answers; the best one "
            f"has {share[possible].max():.3f}"
        )
    last = int(reached[-1])
    below = max(ranked[last + 1], 0.0) if last + 1 < len(ranked) else 0.0
    middle = (ranked[last] + below) / 2
    threshold = float(middle if middle > below else ranked[last])
    return SearchThreshold(threshold, precision, len(score), last + 1)


def threshold_within_reach(
    score: NDArray[np.float32], right: NDArray[np.bool_], *, precision: float = 0.95
) -> SearchThreshold | None:
    """Return the result of `fit_search_threshold`, or None where it raises."""
    try:
        return fit_search_threshold(score, right, precision=precision)
    except (InvalidPairsError, ConfigError):
        return None


def cautious_search_threshold(
    score: NDArray[np.float32], right: NDArray[np.bool_], *, precision: float = 0.95
) -> SearchThreshold | None:
    """Return the result of `fit_search_threshold`, or without one the lowest threshold that refuses every wrong answer.

    A matcher that cannot answer with the precision should answer little, and not all that its threshold of pairs lets
    through.

    Args:
        score: of the best candidates, shape (n,).
        right: True for a right one, shape (n,).
        precision: share of right answers, in (0, 1).

    Returns:
        The threshold, or None if there are fewer searches than the precision needs right answers.
    """
    fitted = threshold_within_reach(score, right, precision=precision)
    if fitted is not None or len(score) < fewest_for_precision(precision):
        return fitted
    worst = float(score[~right].max(initial=0.0))
    above = score[score > worst]
    threshold = (worst + float(above.min(initial=1.0))) / 2
    return SearchThreshold(threshold, precision, len(score), int((score >= threshold).sum()))
