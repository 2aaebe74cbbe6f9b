"""Estimates from the labels so far: precision with its interval, and the gain of more labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FOLDS = 5
_ROUNDS = 3
_LEAST = 60
"""Labels from which on a learning curve is drawn."""
_SMALL = 0.01
"""Gain in nats a pair that pays for no more labels."""
_STEPS = 25
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Curve:
    """Log loss of a classifier of pairs with a half and with all of the labels, cross-validated."""

    half: float
    full: float
    error: float
    """Standard error of the difference."""

    @property
    def pays(self) -> bool:
        """Return True if the last doubling has made the classifier clearly better."""
        return self.half - self.full > max(_SMALL, self.error)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson, 1927)."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def features(values: NDArray[np.float64], a: list[str], b: list[str]) -> NDArray[np.float64]:
    """Return what the classifier sees of each pair: value, words in common, ratio of lengths; shape (n, 3)."""
    words = [(set(x.lower().split()), set(y.lower().split())) for x, y in zip(a, b, strict=True)]
    common = [len(x & y) / max(1, len(x | y)) for x, y in words]
    ratio = [min(len(x), len(y)) / max(1, len(x), len(y)) for x, y in zip(a, b, strict=True)]
    return np.column_stack([values, common, ratio])


def learning_curve(x: NDArray[np.float64], label: NDArray[np.int64], *, seed: int = 0) -> Curve | None:
    """Return the learning curve; None for too few labels of one kind.

    Args:
        x: features, shape (n, k).
        label: 1 for a match, else 0, shape (n,).
        seed: of the folds.
    """
    if len(label) < _LEAST or min(label.sum(), (1 - label).sum()) < 2 * _FOLDS:
        return None
    scaled = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9)
    design = np.column_stack([scaled, np.ones(len(x))])
    random = np.random.default_rng(seed)
    losses = np.zeros((2, len(label)))
    for _ in range(_ROUNDS):
        fold = random.permutation(len(label)) % _FOLDS
        for held in range(_FOLDS):
            train = random.permutation(np.flatnonzero(fold != held))
            test = fold == held
            for row, rows in enumerate((train[: len(train) // 2], train)):
                losses[row, test] += _log_loss(design[test], label[test], logistic(design[rows], label[rows]))
    losses /= _ROUNDS
    gain = losses[0] - losses[1]
    half, full = losses.mean(axis=1).tolist()
    return Curve(half, full, float(gain.std(ddof=1)) / math.sqrt(len(gain)))


def logistic(x: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weights of a logistic regression with a ridge, by Newton's method."""
    weights = np.zeros(x.shape[1])
    ridge = _RIDGE * np.eye(x.shape[1])
    for _ in range(_STEPS):
        p = _sigmoid(x @ weights)
        gradient = x.T @ (label - p) - ridge @ weights
        weights += np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge, gradient)
    return weights


def _log_loss(x: NDArray[np.float64], label: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.clip(_sigmoid(x @ weights), 1e-6, 1 - 1e-6)
    return np.asarray(-np.where(label == 1, np.log(p), np.log(1 - p)))


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))))
