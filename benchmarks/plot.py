"""Pictures of the results: the front of quality against speed, and the experiments with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from experiments.figures import Ablation, Estimate, Row
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"teacher as is": "tab:gray", "student, labels only": "tab:orange"}
"""Colours of systems other than teachers (blue) and flipped students (red)."""


def draw_front(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw average precision over speed, each system a disc with the area of its model.

    Failed systems are left out. A system without vectors has no speed in texts and is drawn as a line.
    """
    figure, axes = _figure(figsize=(10, 5.5))
    for number, row in enumerate((row for row in rows if "failed" not in row), start=1):
        colour = "tab:red" if row["name"].startswith("flipkd") else "tab:blue" if row["tuned"] else "tab:gray"
        y = row["average_precision"]
        if "texts_per_second" not in row:
            axes.axhline(y, color=colour, linestyle=":", label=f"{number} {row['name']}, no model")
            axes.annotate(str(number), (1, y), xycoords=("axes fraction", "data"), ha="right", va="bottom")
            continue
        x = row["texts_per_second"]
        low, high = row["average_precision_interval"]
        axes.errorbar(x, y, yerr=[[max(0.0, y - low)], [max(0.0, high - y)]], color=colour, alpha=0.3, linewidth=1)
        axes.scatter(x, y, s=8 * row["model_mb"], color=colour, alpha=0.35, linewidths=0)
        label = f"{number} {row['name']}, {row['model_mb']:.0f} MB"
        axes.plot(x, y, marker="o", markersize=3, linestyle="none", color=colour, label=label)
        # Numbers on different sides stay readable if systems have the same vectors and about the same speed.
        side = ((6, 5), (-14, 5), (6, -13), (-14, -13))[number % 4]
        axes.annotate(str(number), (x, y), xytext=side, textcoords="offset points")
    axes.set(
        xscale="log",
        xlabel="texts per second, two threads",
        ylabel="average precision on mqp test, with 95% interval",
        title="Speed, quality, model size (area); grey: trained on no labelled pair",
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    _save(figure, file)


def draw_experiments(rows: Sequence[Row], ablations: Sequence[Ablation], file: Path) -> None:
    """Draw a point with its 95% interval for each system and each ablation."""
    changes = [(one.finished.run.label, one.gain) for one in ablations if one.gain is not None]
    heights = [max(1, len(rows)), max(1, len(changes))]
    figure, (above, below) = _figure(2, figsize=(9, 1.5 + 0.26 * sum(heights)), height_ratios=heights)
    points = [(f"{row.data}: {row.system}", row.measures["average_precision"]) for row in rows]
    _points(above, points, [_colour(row.system) for row in rows])
    above.set(title="Average precision of the test pairs, with 95% interval")
    _points(below, changes, ["tab:purple"] * len(changes))
    below.axvline(0, color="black", linewidth=0.8)
    below.set(title="Ablations on mqp: difference of average precision to the base, with 95% interval")
    _save(figure, file)


def _figure(*rows: int, **options: Any) -> tuple[Figure, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "flipkd"
    from matplotlib import pyplot

    return pyplot.subplots(*rows, layout="constrained", **options)


def _save(figure: Figure, file: Path) -> None:
    from matplotlib import pyplot

    # Without the date, the same results give the same file.
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)


def _points(axes: Axes, points: Sequence[tuple[str, Estimate]], colours: Sequence[str]) -> None:
    for index, ((_, measured), colour) in enumerate(zip(points, colours, strict=True)):
        low, high = measured.interval
        axes.plot([low, high], [index, index], color=colour, alpha=0.5)
        axes.plot(measured.value, index, marker="o", color=colour)
    axes.set_yticks(range(len(points)), [name for name, _ in points])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def _colour(system: str) -> str:
    return _COLOURS.get(system, "tab:red" if "flipped" in system else "tab:blue")
