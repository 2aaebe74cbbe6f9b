"""From cosine similarity to match probability: Platt scaling and the choice of thresholds.

They are fitted on a development split, never on the test split, and stored in the manifest. ``flipkd calibrate``
fits them again on the user's pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import ConfigError, InvalidPairsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_NEWTON_STEPS = 100
_AT_PRIOR = " at prior "
_ROUNDING = 1e-9
"""Numbers of pairs computed from a share are rounded up, except by less than this."""


@dataclass(frozen=True, slots=True)
class SearchThreshold:
    """Threshold of a search: the least score of a best candidate that is an answer."""

    threshold: float
    """Least match probability, in [0, 1]."""
    precision: float
    """Least share of right answers that it was fitted for, in (0, 1]."""
    searches: int
    """Number of searches that it was fitted on."""
    answered: int
    """Number of these searches whose best candidate reaches it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of a matcher: logistic curve from cosine to probability, and the threshold of a match."""

    slope: float
    """Slope of the logistic curve over the cosine; positive."""
    intercept: float
    """Intercept of the logistic curve."""
    threshold: float
    """Least match probability of a match, in [0, 1]."""
    objective: str
    """Objective of the threshold: ``"f1"``, ``"precision>=P"`` or ``"recall>=R"``, with the prior if one was given."""
    size: int
    """Number of pairs that both were fitted on."""
    search: SearchThreshold | None = field(default=None, metadata={"optional": True})
    """None if no threshold of searches was fitted."""

    @property
    def has_prior(self) -> bool:
        """Return True if it holds for a share of matches that the user gave, not for that of the fitted pairs."""
        return _AT_PRIOR in self.objective

    def probability(self, cosine: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map cosines of any shape to match probabilities in [0, 1] of the same shape, float32."""
        logit = self.slope * np.asarray(cosine, dtype=np.float64) + self.intercept
        # The two branches of the logistic function that cannot overflow.
        small = np.exp(-np.abs(logit))
        return np.where(logit >= 0, 1.0 / (1.0 + small), small / (1.0 + small)).astype(np.float32)

    def with_search_of(self, earlier: Calibration) -> Calibration:
        """Return this calibration with the search threshold of an earlier one, which accepts the same answers."""
        search = earlier.search
        if search is None or not 0 < search.threshold < 1:
            return replace(self, search=search)
        value = (math.log(search.threshold / (1 - search.threshold)) - earlier.intercept) / earlier.slope
        return replace(self, search=replace(search, threshold=float(self.probability(np.array(value, np.float32)))))


def fit(
    cosine: NDArray[np.floating], label: NDArray[np.integer], *, objective: str = "f1", prior: float | None = None
) -> Calibration:
    """Fit Platt scaling and choose the threshold for an objective.

    Platt (1999), with his smoothed targets (N+ + 1)/(N+ + 2) and 1/(N− + 2), which keep the slope finite when the
    classes are separable; minimised by Newton's method as in Lin, Lin & Weng (2007).

    A prior moves the intercept by logit(prior) − logit(N+/(N+ + N−)). This is exact if only the share of matches
    differs in use, and matches and non-matches are like those of the pairs (Saerens, Latinne & Decaestecker, 2002).

    Args:
        cosine: similarities of the pairs, shape (n,).
        label: 1 for a match, 0 for none, shape (n,).
        objective: ``"f1"`` for the best F1, ``"precision>=P"`` for the best recall with precision of at least P, or
            ``"recall>=R"`` for the best precision with recall of at least R.
        prior: share of matches in use, in (0, 1); by default that of the pairs.

    Raises:
        InvalidPairsError: one of the two classes is missing, or the cosines are not finite or do not rise with the
            label.
        ConfigError: the objective is unknown or out of reach, or the prior is outside (0, 1).
    """
    cosine = np.asarray(cosine, dtype=np.float64)
    label = np.asarray(label)
    positives, negatives = _both_labels(label)
    if not np.isfinite(cosine).all():
        raise InvalidPairsError("a similarity of the pairs is not a finite number; the model is broken")
    slope, intercept = _platt(cosine, label, positives, negatives)
    # If all cosines are equal, the slope is undetermined and its sign is rounding noise.
    if slope <= 0 or np.ptp(cosine) == 0:
        raise InvalidPairsError(
            "on these pairs the similarity does not rise with the label; check that label 1 means a match"
        )
    named = objective
    if prior is not None:
        _check_prior(prior)
        intercept += math.log(prior / (1 - prior)) - math.log(positives / negatives)
        named += f"{_AT_PRIOR}{prior:g}"
    curve = Calibration(slope, intercept, 0.5, named, len(label))
    score = curve.probability(cosine.astype(np.float32))
    threshold = choose_threshold(score, label, objective=objective, prior=prior)
    return Calibration(slope, intercept, threshold, named, len(label))


def choose_threshold(
    score: NDArray[np.floating], label: NDArray[np.integer], *, objective: str = "f1", prior: float | None = None
) -> float:
    """Choose the least score of a match.

    The threshold is half-way between the two neighbouring scores that it separates, so that rounding of a score does
    not change its decision.

    Args:
        score: match probabilities, shape (n,).
        label: 1 for a match, 0 for none, shape (n,).
        objective: as for `fit`.
        prior: share of matches for which precision and F1 are computed; by default that of the pairs.

    Raises:
        ConfigError: the objective is unknown, or no threshold reaches its precision.
    """
    goal, least = _parsed(objective)
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    ranked = np.asarray(score, dtype=np.float64)[order]
    hits = np.cumsum(np.asarray(label)[order])
    taken = np.arange(1, len(ranked) + 1)
    # No threshold separates equal scores.
    possible = np.append(ranked[:-1] > ranked[1:], True)
    match_weight, other_weight = _weights(int(hits[-1]), len(ranked), prior)
    weighted_hits = match_weight * hits
    weighted = weighted_hits + other_weight * (taken - hits)
    precision, recall = weighted_hits / weighted, hits / max(int(hits[-1]), 1)
    if goal == "f1":
        value = 2 * weighted_hits / (weighted + match_weight * hits[-1])
    elif goal == "precision":
        best_precision = precision[possible].max()
        possible &= precision >= least
        if not possible.any():
            raise ConfigError(f"objective {objective}: the best precision on these pairs is {best_precision:.3f}")
        value = recall
    else:
        possible &= recall >= least
        value = precision
    best = int(np.argmax(np.where(possible, value, -1.0)))
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    middle = (ranked[best] + below) / 2
    # Neighbouring floats have no middle, and rounding may return the lower one.
    return float(middle if middle > below else ranked[best])


def check_enough_pairs(label: NDArray[np.integer], *, objective: str, prior: float | None = None) -> None:
    """Check that one wrong pair leaves the objective within reach.

    With fewer pairs a threshold reaches the objective only if it makes no error on them at all, which proves little:
    one false match among N+ + 1 answers, or one missed match among N+, would be too many.

    Args:
        label: 1 for a match, 0 for none, shape (n,).
        objective: as for `fit`.
        prior: as for `fit`.

    Raises:
        InvalidPairsError: one of the classes is missing, or more pairs are needed; the message names their number.
        ConfigError: the objective or the prior is invalid.
    """
    positives, negatives = _both_labels(np.asarray(label))
    goal, least = _parsed(objective)
    if prior is not None:
        _check_prior(prior)
    if goal == "f1":
        return
    if least == 1:
        raise InvalidPairsError(f"no number of pairs shows a {goal} of 1; ask for less, such as 0.99")
    odds = least / (1 - least)
    if goal == "recall":
        kind, found, needed = "matches", positives, odds + 1
    elif prior is None:
        kind, found, needed = "matches", positives, odds
    else:
        kind, found, needed = "non-matches", negatives, odds * (1 - prior) / prior
    least_number = _rounded_up(needed)
    if found < least_number:
        where = "" if prior is None or goal == "recall" else f" where {prior:g} of all pairs match"
        raise InvalidPairsError(
            f"too few pairs for a {goal} of {least:g}{where}: {least_number:,} {kind} are needed, found {found:,}; "
            f"label more, or ask for less"
        )


def fewest_for_precision(precision: float) -> int:
    """Return the number of right answers beside which one wrong answer leaves a precision within reach.

    Raises:
        ConfigError: the precision is not in (0, 1).
    """
    if not 0 < precision < 1:
        raise ConfigError(f"precision={precision}: expected a number between 0 and 1")
    return _rounded_up(precision / (1 - precision))


def _rounded_up(number: float) -> int:
    return math.ceil(number - _ROUNDING * number)


def _both_labels(label: NDArray[np.integer]) -> tuple[int, int]:
    """Return the numbers of matches and of non-matches."""
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        raise InvalidPairsError("calibration needs pairs of both labels, 0 and 1; add pairs of the missing one")
    return positives, negatives


def _check_prior(prior: float) -> None:
    if not 0 < prior < 1:
        raise ConfigError(f"prior={prior}: expected the share of matches in use, between 0 and 1")


def _weights(positives: int, size: int, prior: float | None) -> tuple[float, float]:
    """Return the weights of a match and of a non-match under a prior; 1 without a prior, so that counts stay whole."""
    if prior is None:
        return 1.0, 1.0
    return prior / max(positives, 1), (1 - prior) / max(size - positives, 1)


def _parsed(objective: str) -> tuple[str, float]:
    """Return the measure that an objective names, and its least value."""
    if objective == "f1":
        return objective, 0.0
    goal, _, value = objective.partition(">=")
    if goal not in ("precision", "recall"):
        raise ConfigError(f"unknown threshold objective {objective!r}; use 'f1', 'precision>=P' or 'recall>=R'")
    try:
        least = float(value)
    except ValueError:
        least = math.nan
    if not 0.0 < least <= 1.0:
        raise ConfigError(f"objective {objective!r}: the {goal} must be a number in (0, 1], as in '{goal}>=0.95'")
    return goal, least


def _platt(
    cosine: NDArray[np.floating], label: NDArray[np.integer], positives: int, negatives: int
) -> tuple[float, float]:
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([cosine, np.ones_like(cosine)], axis=1)
    weights = np.array([0.0, np.log((positives + 1) / (negatives + 1))])

    def loss(candidate: NDArray[np.float64]) -> float:
        logit = design @ candidate
        return float(np.sum(np.logaddexp(0.0, logit) - target * logit))

    current = loss(weights)
    for _ in range(_MAX_NEWTON_STEPS):
        p = 0.5 * (1 + np.tanh(design @ weights / 2))
        gradient = design.T @ (p - target)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while scale > 1e-8 and loss(weights - scale * step) > current:
            scale /= 2
        weights = weights - scale * step
        previous, current = current, loss(weights)
        if previous - current < 1e-10 * max(abs(current), 1.0):
            break
    return float(weights[0]), float(weights[1])
