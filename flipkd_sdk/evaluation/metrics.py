"""Quality of scores against labels: threshold-free ranking measures, decisions at a threshold, calibration error.

All functions take ``score`` (float, shape (n,)) and ``label`` (1 match, 0 none, shape (n,)) and agree with the
definitions of scikit-learn, as the tests check; numpy alone keeps the base install small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.floating]
    Labels = NDArray[np.integer]

MEASURES = ("average_precision", "roc_auc", "spearman", "f1", "precision", "recall", "accuracy", "calibration_error")
"""Names of all measures of `summary`, in the order of tables."""


def average_precision(score: Scores, label: Labels) -> float:
    """Return average precision, Σ (R_k − R_{k−1})·P_k over falling distinct scores; NaN without a positive."""
    precision, recall = precision_recall_curve(score, label)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall_curve(score: Scores, label: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision and recall at each distinct score, from the highest score down; both shape (k,)."""
    taken, hits = _cumulative(score, label)
    positives = float(np.sum(label))
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / taken, hits / positives


def roc_auc(score: Scores, label: Labels) -> float:
    """Return the probability that a random match scores above a random non-match; NaN with one class only."""
    return _roc_auc(_ranks(np.asarray(score, dtype=np.float64)), np.asarray(label))


def spearman(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Return Spearman's rank correlation; ties get their mean rank, and a constant side gives NaN."""
    return _correlation(_ranks(np.asarray(x, dtype=np.float64)), _ranks(np.asarray(y, dtype=np.float64)))


def at_threshold(score: Scores, label: Labels, threshold: float) -> dict[str, float]:
    """Return accuracy, precision, recall and F1 of "score ≥ threshold"; a ratio with denominator 0 is 0."""
    label = np.asarray(label) == 1
    # float32 would round a threshold between two neighbouring scores to one of them.
    predicted = np.asarray(score, dtype=np.float64) >= threshold
    hits = int(np.sum(predicted & label))
    chosen, positives = int(predicted.sum()), int(label.sum())
    return {
        "accuracy": float(np.mean(predicted == label)),
        "precision": hits / chosen if chosen else 0.0,
        "recall": hits / positives if positives else 0.0,
        "f1": 2 * hits / (chosen + positives) if chosen + positives else 0.0,
    }


def reliability_curve(
    probability: Scores, label: Labels, *, bins: int = 10
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean score and share of matches of each non-empty equal-width bin of [0, 1]; both shape (≤ bins,)."""
    scores = np.asarray(probability, dtype=np.float64)
    index = _bin_of(scores, bins)
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    means = [np.bincount(index, weights, bins)[filled] / count[filled] for weights in (scores, label)]
    return means[0], means[1]


def calibration_error(probability: Scores, label: Labels, *, bins: int = 10) -> float:
    """Return the expected calibration error over equal-width bins of [0, 1] (Naeini et al., 2015)."""
    probability = np.asarray(probability, dtype=np.float64)
    label = np.asarray(label, dtype=np.float64)
    index = _bin_of(probability, bins)
    gap = np.bincount(index, weights=probability - label, minlength=bins)
    return float(np.abs(gap).sum() / len(label))


def summary(probability: Scores, label: Labels, threshold: float) -> dict[str, float]:
    """Return all measures of calibrated scores by name, those of `at_threshold` included."""
    # Sorting takes most of the time. Ranks of two values are a linear function of them, so labels need no ranks.
    rank, label = _ranks(np.asarray(probability, dtype=np.float64)), np.asarray(label)
    return {
        **at_threshold(probability, label, threshold),
        "average_precision": average_precision(probability, label),
        "roc_auc": _roc_auc(rank, label),
        "spearman": _correlation(rank, label.astype(np.float64)),
        "calibration_error": calibration_error(probability, label),
    }


def agreement(cosine: Scores, reference: Scores, label: Labels) -> dict[str, float]:
    """Return the agreement of cosines with a reference: rank correlation, largest change, AP change.

    Args:
        cosine: of each pair, shape (n,).
        reference: the same pairs' cosines before a change of the model, shape (n,).
        label: 1 match, 0 none, shape (n,).

    Returns:
        ``spearman``, ``max_cosine_change`` and ``average_precision_change``, the names that the manifest has for them.
    """
    return {
        "spearman": spearman(cosine, reference),
        "max_cosine_change": float(np.abs(cosine - reference).max()),
        "average_precision_change": average_precision(cosine, label) - average_precision(reference, label),
    }


def _bin_of(score: Scores, bins: int) -> NDArray[np.int64]:
    """Return the index of each score's equal-width bin of [0, 1]; 1 belongs to the last bin."""
    return np.minimum((score * bins).astype(np.int64), bins - 1)


def _roc_auc(rank: NDArray[np.float64], label: Labels) -> float:
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return float("nan")
    return float((rank[label == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Pearson's correlation; NaN if one side is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


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
