"""Charts of scores against labels: precision over recall, reliability, histogram of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.metrics import at_threshold, average_precision, precision_recall_curve, reliability_curve
from flipkd_sdk.pages.charts import Line, histogram, line_chart, share_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flipkd_sdk.evaluation.scored import Scored
    from flipkd_sdk.pages.html import Html

_BINS = 20


def precision_recall_chart(title: str, systems: Sequence[Scored], thresholds: Sequence[float]) -> Html:
    """Chart precision over recall, with each system's average precision and a dot at its own threshold.

    Args:
        title: caption.
        systems: scores for the same labels.
        thresholds: one for each system.
    """
    curves, chosen = [], []
    for i, (system, threshold) in enumerate(zip(systems, thresholds, strict=True)):
        precision, recall = precision_recall_curve(system.probability, system.label)
        points = list(zip(recall.tolist(), precision.tolist(), strict=True))
        reached = average_precision(system.probability, system.label)
        curves.append(Line(f"{system.name}, average precision {reached:.3f}", points))
        measures = at_threshold(system.probability, system.label, threshold)
        decided = [(measures["recall"], measures["precision"])]
        chosen.append(Line("", decided, dots=True, colour=i))
    share = float(np.mean(systems[0].label))
    chance = Line("share of matches: chance", [(0.0, share), (1.0, share)])
    return line_chart(
        f"{title} (dots: at the threshold)",
        share_axis("recall: share of the matches that are found"),
        share_axis("precision"),
        [*curves, *chosen],
        guides=[chance],
    )


def reliability_chart(title: str, systems: Sequence[Scored]) -> Html:
    """Chart the share of matches over the score; the points of a calibrated system are on the diagonal."""
    lines = []
    for system in systems:
        score, rate = reliability_curve(system.probability, system.label)
        lines.append(Line(system.name, list(zip(score.tolist(), rate.tolist(), strict=True)), dots=True))
    diagonal = Line("calibrated", [(0.0, 0.0), (1.0, 1.0)])
    return line_chart(title, share_axis("mean score"), share_axis("share of matches"), lines, guides=[diagonal])


def score_histogram(title: str, system: Scored, threshold: float) -> Html:
    """Chart the number of matches and of non-matches by score, with a line at the threshold."""
    bars = []
    for label, name in ((1, "matches"), (0, "non-matches")):
        counts, _ = np.histogram(system.probability[system.label == label], bins=_BINS, range=(0, 1))
        bars.append((name, counts.tolist()))
    return histogram(title, share_axis("score"), "pairs", bars, mark=threshold)
