"""Average precision by set and system, and what the ablations change, in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from figures import Ablation, Estimate, Row
    from matplotlib.axes import Axes

COLOURS = {"teacher as is": "tab:gray", "student, labels only": "tab:orange"}
"""Of other systems: teachers are blue, flipped students red."""


def draw(rows: Sequence[Row], ablations: Sequence[Ablation], file: Path) -> None:
    """Write the picture: a point with its 95% interval for each system and each ablation."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "flipkd"
    from matplotlib import pyplot

    changes = [(one.finished.run.label, one.gain) for one in ablations if one.gain is not None]
    heights = [max(1, len(rows)), max(1, len(changes))]
    figure, (above, below) = pyplot.subplots(
        2, figsize=(9, 1.5 + 0.26 * sum(heights)), layout="constrained", height_ratios=heights
    )
    points = [(f"{row.data}: {row.system}", row.measures["average_precision"]) for row in rows]
    _points(above, points, [_colour(row.system) for row in rows])
    above.set(title="Average precision of the test pairs, with 95% interval")
    _points(below, changes, ["tab:purple"] * len(changes))
    below.axvline(0, color="black", linewidth=0.8)
    below.set(title="Ablations on mqp: difference of average precision to the base, with 95% interval")
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _points(axes: Axes, points: Sequence[tuple[str, Estimate]], colours: Sequence[str]) -> None:
    for place, ((_, measured), colour) in enumerate(zip(points, colours, strict=True)):
        low, high = measured.interval
        axes.plot([low, high], [place, place], color=colour, alpha=0.5)
        axes.plot(measured.value, place, marker="o", color=colour)
    axes.set_yticks(range(len(points)), [name for name, _ in points])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def _colour(system: str) -> str:
    return COLOURS.get(system, "tab:red" if "flipped" in system else "tab:blue")
