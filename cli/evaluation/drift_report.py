"""``flipkd drift --report``: one self-contained page, in the design of the other reports."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flipkd_sdk import __version__
from flipkd_sdk.cli.evaluation.drift import NAMES
from flipkd_sdk.pages.charts import Axis, histogram
from flipkd_sdk.pages.html import element, join
from flipkd_sdk.pages.page import Section, page
from flipkd_sdk.pages.parts import details, facts, table, tiles, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flipkd_sdk.cli.evaluation.drift import DriftCheck, MeasureDrift

_MEANINGS = {
    "score": "Match probabilities of the pairs. They shift if pairs are made in another way, or if texts differ.",
    "length": "Pieces (tokens) of each distinct text.",
    "unknown": "Share of a text's pieces that no training text contains: new words, names, another language.",
    "similarity": "Cosine of a text with the nearest centroid of the training texts. Lower is less familiar.",
}


def drift_html(found: DriftCheck, limit: float | None) -> str:
    """Return the report.

    Args:
        found: the comparison.
        limit: limit of the index, if the user gave one.
    """
    sample = found.sample
    shifted = [measured for measured in found.measures if measured.verdict != "stable"]
    lead = join(
        [
            verdict(_headline(shifted), list(_sentences(found, limit))),
            tiles([(f"{m.drift.psi:.3f}", f"stability index: {NAMES[m.name]}", m.verdict) for m in found.measures]),
            facts(
                [
                    ("Date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
                    ("Table", f"{Path(sample.table).name}: {sample.rows:,} rows, {len(sample.items):,} measured"),
                    ("Matcher", f"{Path(found.matcher).resolve().name}: {found.ran}"),
                    ("Profile", f"{found.profile}, held out from training"),
                    ("Blank texts", f"{found.blank_texts:,}, left out"),
                    ("Truncated texts", f"{found.truncated_texts:,}"),
                ]
            ),
        ]
    )
    sections = [_section(measured) for measured in found.measures]
    if found.unlike:
        sections.append(_unlike(found))
    return page("Drift report", lead, sections, footer=f"Written by flipkd drift, flipkd_sdk {__version__}.")


def _headline(shifted: list[MeasureDrift]) -> str:
    if not shifted:
        return "These texts are like those that the matcher was measured on."
    return f"These texts differ in {', '.join(NAMES[measured.name] for measured in shifted)}."


def _sentences(found: DriftCheck, limit: float | None) -> Iterator[str]:
    yield (
        "The population stability index compares the shares of values in bins at export with those now. Below 0.1 a "
        "measure is called stable, above 0.25 it has shifted; an index that chance explains counts as stable."
    )
    if limit is not None:
        above = [NAMES[measured.name] for measured in found.above(limit)]
        yield f"Above the limit of {limit:g}: {', '.join(above) or 'none'}."
    yield "Drift does not show by itself that decisions are wrong: label some of these pairs and run flipkd evaluate."


def _section(measured: MeasureDrift) -> Section:
    drift = measured.drift
    stored, now = (100 * shares for shares in drift.shares)
    bins = len(stored)
    chart = histogram(
        f"Share of values by bin: {NAMES[measured.name]}",
        Axis("bin; the first and the last one are outside the range at export", tuple(map(float, range(bins + 1)))),
        "% of the values",
        [("at export", stored.tolist()), ("now", now.tolist())],
    )
    edges = [_edge(edge) for edge in measured.edges]
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
    ranges = [f"below {edges[0]}", *inner, f"above {edges[-1]}"]
    rows = [(r, f"{q:.1f}%", f"{p:.1f}%") for r, q, p in zip(ranges, stored.tolist(), now.tolist(), strict=True)]
    summary = (
        f"Index {drift.psi:.3f}; by chance up to {drift.chance:.3f} with {drift.size:,} values against "
        f"{drift.stored.size:,} at export. {drift.outside:.1%} are outside the range at export. "
        f"{_MEANINGS[measured.name]}"
    )
    bin_table = table(("range", "at export", "now"), rows, caption=f"Bins of {NAMES[measured.name]}")
    body = join([element("p", summary), element("div", chart, class_="charts"), details("Bins in figures", bin_table)])
    return Section(measured.name, f"{NAMES[measured.name].capitalize()}: {measured.verdict}", body)


def _edge(value: float) -> str:
    return f"{value:.4g}"


def _unlike(found: DriftCheck) -> Section:
    note = element("p", "Texts of the sample that are least similar to the training texts. Read them first.")
    rows = [(f"{similarity:.3f}", text) for text, similarity in found.unlike]
    body = table(("similarity", "text"), rows, caption="Least similar texts", text_columns=(1,))
    return Section("unlike", "Least similar texts", join([note, body]))
