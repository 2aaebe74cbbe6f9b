"""Plots of scores against labels, as SVG pictures inside a page; matplotlib is imported when one is drawn."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipkd_sdk.evaluation.metrics import average_precision, precision_recall_curve, reliability_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

COLOURS = ("#2a6fdb", "#d1495b", "#3a9d5d", "#8e5ea2", "#c98a1b")
GREY = "#8a8f98"
_BINS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What one system says of n labelled pairs."""

    name: str
    probability: NDArray[np.float32]
    """Shape (n,)."""
    label: NDArray[np.integer]
    """1 for a match, 0 for none, shape (n,)."""


def picture(draw: Callable[[Axes], None], *, size: tuple[float, float] = (4.2, 3.4)) -> str:
    """Draw on fresh axes of a size in inches, and return the picture as a data URI."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def draw_precision_recall(axes: Axes, systems: Sequence[Scored]) -> None:
    """Precision over recall, with each system's average precision in the legend."""
    for system, colour in zip(systems, COLOURS, strict=False):
        precision, recall = precision_recall_curve(system.probability, system.label)
        label = f"{system.name}, AP {average_precision(system.probability, system.label):.3f}"
        axes.plot(recall, precision, color=colour, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))


def draw_reliability(axes: Axes, systems: Sequence[Scored]) -> None:
    """Share of matches over the score; what is calibrated lies on the diagonal."""
    axes.plot([0, 1], [0, 1], color="#c5cad3", linewidth=1)
    for system, colour in zip(systems, COLOURS, strict=False):
        score, rate = reliability_curve(system.probability, system.label)
        axes.plot(score, rate, "o-", color=colour, label=system.name)
    axes.set(xlabel="score", ylabel="share of matches", xlim=(0, 1), ylim=(0, 1.02))


def draw_scores(axes: Axes, system: Scored, threshold: float) -> None:
    """Histograms of the scores of matches and of other pairs."""
    for label, name, colour in ((0, "other pairs", GREY), (1, "matches", COLOURS[0])):
        scores = system.probability[system.label == label]
        axes.hist(scores, bins=_BINS, range=(0, 1), color=colour, alpha=0.6, label=name)
    axes.axvline(threshold, color="#1d2330", linestyle="--", linewidth=1, label="threshold")
    axes.set(xlabel="score", ylabel="pairs")
