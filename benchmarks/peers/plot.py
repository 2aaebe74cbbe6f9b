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

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    for row in rows:
        if "failed" in row:
            continue
        colour = "tab:red" if row["name"].startswith("flipkd") else "tab:blue" if row["tuned"] else "tab:gray"
        y = row["average_precision"]
        if "texts_per_second" not in row:
            axes.axhline(y, color=colour, linestyle=":")
            axes.annotate(row["name"], (0.01, y), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
            continue
        x = row["texts_per_second"]
        low, high = row["average_precision_interval"]
        axes.errorbar(x, y, yerr=[[max(0.0, y - low)], [max(0.0, high - y)]], color=colour, alpha=0.3, linewidth=1)
        axes.scatter(x, y, s=8 * row["model_mb"], color=colour, alpha=0.35, linewidths=0)
        axes.scatter(x, y, s=6, color=colour)
        label = f"{row['name']}, {row['model_mb']:.0f} MB"
        axes.annotate(label, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.set(
        xscale="log",
        xlabel="texts per second, two threads",
        ylabel="average precision on mqp test, with 95% interval",
        title="Speed, quality, and size of the model (area). Grey: no labelled pair of the domain seen",
    )
    axes.margins(x=0.25)
    axes.grid(alpha=0.3, which="both")
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
