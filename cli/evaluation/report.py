"""``flipkd evaluate --report``: one HTML file with the figures, and with plots where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from html import escape
from typing import TYPE_CHECKING

from flipkd_sdk.evaluation.plots import Scored, draw_precision_recall, draw_reliability, draw_scores, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes

    from flipkd_sdk.cli.evaluation.comparison import Comparison, Scoring
    from flipkd_sdk.evaluation.bootstrap import Measured
    from flipkd_sdk.pairs import Pairs

_CHANGED_ROWS = 200

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
        scored = [Scored(system.name, system.probability, pairs.label) for system in systems]
        threshold = systems[0].threshold
        yield "<h2>Plots</h2>"
        yield _figure("Precision over recall", lambda axes: draw_precision_recall(axes, scored))
        yield _figure(
            "Share of matches among pairs of a score; calibrated on the diagonal",
            lambda axes: draw_reliability(axes, scored),
        )
        yield _figure("Scores of matches and of other pairs", lambda axes: draw_scores(axes, scored[0], threshold))
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


def _figure(caption: str, draw: Callable[[Axes], None]) -> str:
    image = picture(draw)
    return f'<figure><img src="{image}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
