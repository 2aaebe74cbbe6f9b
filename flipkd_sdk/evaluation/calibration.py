"""From cosine similarity to match probability: Platt scaling and the choice of a threshold.

Both are fitted on a development split, never on the test split, and travel in the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import ConfigError, InvalidPairsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_NEWTON_STEPS = 100


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
    """Objective of the threshold: ``"f1"`` or ``"precision>=P"``."""
    size: int
    """Number of development pairs that both were fitted on."""

    def probability(self, cosine: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map cosines of any shape to match probabilities in [0, 1] of the same shape, float32."""
        logit = self.slope * np.asarray(cosine, dtype=np.float64) + self.intercept
        # The two branches of the logistic function that cannot overflow.
        small = np.exp(-np.abs(logit))
        return np.where(logit >= 0, 1.0 / (1.0 + small), small / (1.0 + small)).astype(np.float32)


def fit(cosine: NDArray[np.floating], label: NDArray[np.integer], *, objective: str = "f1") -> Calibration:
    """Fit Platt scaling and choose the threshold for an objective.

    Platt (1999), with his smoothed targets (N+ + 1)/(N+ + 2) and 1/(N− + 2), which keep the slope finite when the
    classes are separable; minimised by Newton's method as in Lin, Lin & Weng (2007).

    Args:
        cosine: similarities of the development pairs, shape (n,).
        label: 1 for a match, 0 for none, shape (n,).
        objective: ``"f1"`` for the best F1, or ``"precision>=P"`` for the best recall with precision of at least P.

    Raises:
        InvalidPairsError: one of the two classes is missing, or the cosines are not finite or do not rise with the
            label.
        ConfigError: the objective is unknown.
    """
    cosine = np.asarray(cosine, dtype=np.float64)
    label = np.asarray(label)
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        raise InvalidPairsError(
            "calibration needs development pairs of both labels, 0 and 1; add pairs of the missing one"
        )
    if not np.isfinite(cosine).all():
        raise InvalidPairsError("a similarity of the development pairs is not a finite number; the model is broken")
    slope, intercept = _platt(cosine, label, positives, negatives)
    # If all cosines are equal, the slope is undetermined and its sign is rounding noise.
    if slope <= 0 or np.ptp(cosine) == 0:
        raise InvalidPairsError(
            "on the development pairs the similarity does not rise with the label; check that label 1 means a match"
        )
    curve = Calibration(slope, intercept, 0.5, objective, len(label))
    threshold = choose_threshold(curve.probability(cosine.astype(np.float32)), label, objective=objective)
    return Calibration(slope, intercept, threshold, objective, len(label))


def choose_threshold(score: NDArray[np.floating], label: NDArray[np.integer], *, objective: str = "f1") -> float:
    """Choose the least score of a match.

    The threshold is half-way between the two neighbouring scores that it separates, so that rounding of a score does
    not change its decision.

    Args:
        score: match probabilities, shape (n,).
        label: 1 for a match, 0 for none, shape (n,).
        objective: as for `fit`.

    Raises:
        ConfigError: the objective is unknown, or no threshold reaches its precision.
    """
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    ranked = np.asarray(score, dtype=np.float64)[order]
    hits = np.cumsum(np.asarray(label)[order])
    taken = np.arange(1, len(ranked) + 1)
    # No threshold separates equal scores.
    possible = np.append(ranked[:-1] > ranked[1:], True)
    precision, recall = hits / taken, hits / max(int(hits[-1]), 1)
    if objective == "f1":
        value = 2 * hits / (taken + hits[-1])
    elif objective.startswith("precision>="):
        floor = _floor(objective)
        best_precision = precision[possible].max()
        possible &= precision >= floor
        if not possible.any():
            raise ConfigError(
                f"objective {objective}: the best precision on the development pairs is {best_precision:.3f}"
            )
        value = recall
    else:
        raise ConfigError(f"unknown threshold objective {objective!r}; use 'f1' or 'precision>=P'")
    best = int(np.argmax(np.where(possible, value, -1.0)))
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    middle = (ranked[best] + below) / 2
    # Neighbouring floats have no middle, and rounding may return the lower one.
    return float(middle if middle > below else ranked[best])


def _floor(objective: str) -> float:
    try:
        floor = float(objective.removeprefix("precision>="))
    except ValueError:
        floor = -1.0
    if not 0.0 < floor <= 1.0:
        raise ConfigError(f"objective {objective!r}: the precision must be a number in (0, 1], as in 'precision>=0.95'")
    return floor


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
