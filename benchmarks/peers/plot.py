"""Size, speed and quality of all systems in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def plot(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Average precision over speed, each system a disc with the area of its model; those that failed are left out.

    A system without vectors has no speed in texts, and is drawn as a line.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "flipkd"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 5.5), layout="constrained")
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
        # Systems with the same vectors and about the same speed keep readable numbers by pointing to different sides.
        side = ((6, 5), (-14, 5), (6, -13), (-14, -13))[number % 4]
        axes.annotate(str(number), (x, y), xytext=side, textcoords="offset points")
    axes.set(
        xscale="log",
        xlabel="texts per second, two threads",
        ylabel="average precision on mqp test, with 95% interval",
        title="Speed, quality, model size (area); grey: saw no labelled pair",
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)
