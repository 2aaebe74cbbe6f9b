"""``flipkd evaluate --report``: one HTML file with the figures, and with plots where matplotlib is installed."""

from __future__ import annotations

import base64
import importlib.util
import io
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.metrics import average_precision, precision_recall_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from flipkd_sdk.cli.comparison import Comparison, Measured, Scoring
    from flipkd_sdk.pairs import Pairs

_BINS = 10
_CHANGED_ROWS = 200
_COLOURS = ("#2a6fdb", "#d1495b")

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>flipkd evaluate</title>
<style>
  body {{ font: 15px/1.5 system-ui, sans-serif; color: #1d2330; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
  table {{ border-collapse: collapse; }}
  th, td {{ text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #e3e6eb; vertical-align: top; }}
  figure {{ display: inline-block; width: 21rem; max-width: 100%; margin: 0 1rem 1rem 0; }}
  figure img {{ width: 100%; }} figcaption {{ color: #5b6270; }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def report_html(
    source: str, pairs: Pairs, systems: Sequence[Scoring], measured: Measured, comparison: Comparison | None
) -> str:
    """The report as a page that needs no other file.

    Args:
        source: the file of the pairs.
        pairs: what was measured on.
        systems: the matcher and, in a comparison, the other one.
        measured: the first one's measures.
        comparison: of the two.
    """
    title = f"{escape(systems[0].name)} on {escape(source)}"
    return _PAGE.format(title=title, body="\n".join(_sections(pairs, systems, measured, comparison)))


def _sections(
    pairs: Pairs, systems: Sequence[Scoring], measured: Measured, comparison: Comparison | None
) -> Iterator[str]:
    yield f"<p>{len(pairs):,} pairs, {int(pairs.label.sum()):,} of them matches.</p>"
    for system in systems:
        ran = f"{system.variant} on {system.device}, a match from {system.threshold:.4f} on"
        yield f"<p>{escape(system.name)}: {escape(ran)}.</p>"
    yield _measures(measured, "{:.4f}")
    if comparison is not None:
        yield f"<h2>{escape(systems[1].name)} instead</h2><p>{escape(comparison.verdict)}</p>"
        yield _measures(comparison.differences, "{:+.4f}")
    if importlib.util.find_spec("matplotlib") is None:
        yield "<p>For plots, install matplotlib and write the report again.</p>"
    else:
        yield "<h2>Plots</h2>"
        yield _figure("Precision over recall", _draw_precision_recall, pairs, systems)
        yield _figure(
            "Share of matches among pairs of a score; calibrated on the diagonal", _draw_reliability, pairs, systems
        )
        yield _figure("Scores of matches and of other pairs", _draw_scores, pairs, systems[:1])
    if comparison is not None and comparison.changed:
        yield "<h2>Pairs that change sides</h2>"
        yield _table(
            ("pair", "label", "score", "instead", "", "text a", "text b"),
            [
                (
                    str(pair.pair),
                    str(pair.label),
                    f"{pair.score:.4f}",
                    f"{pair.other_score:.4f}",
                    "gained" if pair.gained else "lost",
                    pair.a,
                    pair.b,
                )
                for pair in comparison.changed[:_CHANGED_ROWS]
            ],
        )


def _measures(measured: Measured, form: str) -> str:
    rows = []
    for name, value in measured.values.items():
        interval = measured.intervals.get(name)
        bounds = "" if interval is None else f"{form.format(interval.low)} to {form.format(interval.high)}"
        rows.append((name.replace("_", " "), form.format(value), bounds))
    return _table(("measure", "value", "95% interval"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _figure(
    caption: str, draw: Callable[[Axes, Pairs, Sequence[Scoring]], None], pairs: Pairs, systems: Sequence[Scoring]
) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    draw(axes, pairs, systems)
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    image = "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
    return f'<figure><img src="{image}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'


def _draw_precision_recall(axes: Axes, pairs: Pairs, systems: Sequence[Scoring]) -> None:
    for system, colour in zip(systems, _COLOURS, strict=False):
        precision, recall = precision_recall_curve(system.probability, pairs.label)
        label = f"{system.name}, AP {average_precision(system.probability, pairs.label):.3f}"
        axes.plot(recall, precision, color=colour, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))


def _draw_reliability(axes: Axes, pairs: Pairs, systems: Sequence[Scoring]) -> None:
    axes.plot([0, 1], [0, 1], color="#c5cad3", linewidth=1)
    for system, colour in zip(systems, _COLOURS, strict=False):
        score, rate = reliability(system.probability, pairs.label)
        axes.plot(score, rate, "o-", color=colour, label=system.name)
    axes.set(xlabel="score", ylabel="share of matches", xlim=(0, 1), ylim=(0, 1.02))


def _draw_scores(axes: Axes, pairs: Pairs, systems: Sequence[Scoring]) -> None:
    (system,) = systems
    for label, name, colour in ((0, "other pairs", "#8a8f98"), (1, "matches", _COLOURS[0])):
        scores = system.probability[pairs.label == label]
        axes.hist(scores, bins=_BINS * 2, range=(0, 1), color=colour, alpha=0.6, label=name)
    axes.axvline(system.threshold, color="#1d2330", linestyle="--", linewidth=1, label="threshold")
    axes.set(xlabel="score", ylabel="pairs")


def reliability(
    probability: NDArray[np.float32], label: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean score and share of matches in each of ten equal bins of [0, 1] that holds a pair; both shape (bins,)."""
    scores = probability.astype(np.float64)
    index = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    count = np.bincount(index, minlength=_BINS)
    there = count > 0
    means = [np.bincount(index, weights, _BINS)[there] / count[there] for weights in (scores, label)]
    return means[0], means[1]
