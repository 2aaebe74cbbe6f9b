"""Quality of scores against labels: threshold-free ranking measures, decisions at a threshold, calibration error.

All functions take ``score`` (float, shape (n,)) and ``label`` (1 match, 0 none, shape (n,)) and agree with the
definitions of scikit-learn, which the tests hold them to; numpy alone keeps the base install small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.floating]
    Labels = NDArray[np.integer]


def average_precision(score: Scores, label: Labels) -> float:
    """Σ (R_k − R_{k−1})·P_k over the distinct scores in falling order; NaN without a positive."""
    precision, recall = precision_recall_curve(score, label)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall_curve(score: Scores, label: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall at each distinct score, from the highest score down; both shape (k,)."""
    taken, hits = _cumulative(score, label)
    positives = float(np.sum(label))
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / taken, hits / positives


def roc_auc(score: Scores, label: Labels) -> float:
    """Probability that a random match scores above a random non-match, ties counted half; NaN with one class only."""
    label = np.asarray(label)
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return float("nan")
    rank = _ranks(np.asarray(score, dtype=np.float64))
    return float((rank[label == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def spearman(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Spearman's rank correlation, ties given their mean rank; NaN where one side is constant."""
    a, b = _ranks(np.asarray(x, dtype=np.float64)), _ranks(np.asarray(y, dtype=np.float64))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def at_threshold(score: Scores, label: Labels, threshold: float) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of "score ≥ threshold"; a ratio over nothing is 0."""
    label = np.asarray(label) == 1
    # In float64: float32 would round a threshold that lies between two neighbouring scores onto one of them.
    predicted = np.asarray(score, dtype=np.float64) >= threshold
    hits = int(np.sum(predicted & label))
    chosen, positives = int(predicted.sum()), int(label.sum())
    return {
        "accuracy": float(np.mean(predicted == label)),
        "precision": hits / chosen if chosen else 0.0,
        "recall": hits / positives if positives else 0.0,
        "f1": 2 * hits / (chosen + positives) if chosen + positives else 0.0,
    }


def calibration_error(probability: Scores, label: Labels, *, bins: int = 10) -> float:
    """Expected calibration error over equal-width bins of [0, 1] (Naeini et al., 2015)."""
    probability = np.asarray(probability, dtype=np.float64)
    label = np.asarray(label, dtype=np.float64)
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(index, weights=probability - label, minlength=bins)
    return float(np.abs(gap).sum() / len(label))


def summary(probability: Scores, label: Labels, threshold: float) -> dict[str, float]:
    """All measures of calibrated scores by name, those of `at_threshold` among them."""
    return {
        **at_threshold(probability, label, threshold),
        "average_precision": average_precision(probability, label),
        "roc_auc": roc_auc(probability, label),
        "calibration_error": calibration_error(probability, label),
    }


def _cumulative(score: Scores, label: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    ranked = np.asarray(score, dtype=np.float64)[order]
    last_of_ties = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    hits = np.cumsum(np.asarray(label, dtype=np.int64)[order])[last_of_ties]
    return last_of_ties + 1, hits


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[inverse]
