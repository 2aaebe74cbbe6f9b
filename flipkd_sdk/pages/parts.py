"""Parts that pages share: facts, tables, key figures, pairs of texts, measures with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipkd_sdk.pages.html import Html, element, escape, join

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flipkd_sdk.evaluation.bootstrap import Measured

_LONGEST_TEXT = 500
"""Most characters of a text that an example shows."""

_MEANINGS = {
    "accuracy": "share of the pairs decided correctly",
    "precision": "share of matches among the pairs called a match",
    "recall": "share of the matches that are called a match",
    "f1": "harmonic mean of precision and recall",
    "average_precision": "mean precision over all thresholds",
    "roc_auc": "probability that a match scores above a non-match",
    "spearman": "rank correlation of score and label",
    "calibration_error": "mean distance of scores from the share of matches",
    "top1": "share of queries whose nearest exemplar has their intent",
    "mrr": "mean of 1/rank of the first exemplar with the query's intent",
}


@dataclass(frozen=True, slots=True)
class Example:
    """A pair of texts to read."""

    a: str
    b: str
    note: str = ""
    """Score, label or decision."""
    explanation: Html | None = None
    """Shown in place of the two texts, which it contains."""


def facts(rows: Iterable[tuple[str, str]]) -> Html:
    """Return names and values as a description list."""
    return element("dl", *(element("div", element("dt", k), element("dd", v)) for k, v in rows), class_="facts")


def paragraphs(texts: Sequence[str]) -> Html:
    """Return a paragraph for each text."""
    return join(element("p", text) for text in texts)


def verdict(headline: str, texts: Sequence[str]) -> Html:
    """Return the conclusion of a page: one sentence, then details."""
    return element("div", element("p", headline, class_="headline"), paragraphs(texts), class_="verdict")


def tiles(figures: Sequence[tuple[str, str, str]]) -> Html:
    """Return key figures: value, meaning, and a note such as an interval."""
    return element(
        "ul",
        *(
            element("li", element("strong", value), element("span", meaning), element("small", note))
            for value, meaning, note in figures
        ),
        class_="tiles",
    )


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, text_columns: Sequence[int] = (0,)
) -> Html:
    """Return a table that scrolls by itself where the screen is narrower.

    Args:
        head: column names.
        rows: cells.
        caption: description for screen readers.
        text_columns: positions of the columns that contain texts instead of figures.
    """

    def cells(row: Sequence[str], tag: str) -> Html:
        return join(
            element(tag, cell, class_="text" if i in text_columns else None, scope="col" if tag == "th" else None)
            for i, cell in enumerate(row)
        )

    body = element(
        "table",
        element("caption", caption, class_="hidden"),
        element("thead", element("tr", cells(head, "th"))),
        element("tbody", *(element("tr", cells(row, "td")) for row in rows)),
    )
    # Reachable by keyboard, because a region that scrolls needs the focus for the arrow keys.
    return element("div", body, class_="scroll", tabindex=0, role="region", aria_label=caption)


def measures_table(systems: Mapping[str, Measured], *, caption: str, form: str = "{:.3f}") -> Html:
    """Return measures by row and systems by column, each figure with its interval."""
    names = list(dict.fromkeys(name for measured in systems.values() for name in measured.values))
    rows = [
        [_measure_name(name), *(measured_cell(measured, name, form) for measured in systems.values())] for name in names
    ]
    return table(["measure", *systems], rows, caption=caption)


def _measure_name(name: str) -> Html:
    meaning = element("small", _MEANINGS[name]) if name in _MEANINGS else ""
    return join([name.replace("_", " "), " ", meaning])


def measured_cell(measured: Measured, name: str, form: str = "{:.3f}") -> Html:
    """Return a figure with its interval below."""
    value = escape(number(measured.values.get(name, math.nan), form))
    interval = measured.intervals.get(name)
    if interval is None or math.isnan(interval.low):
        return value
    bounds = f"{number(interval.low, form)} to {number(interval.high, form)}"
    return join([value, " ", element("small", bounds)])


def number(value: float, form: str = "{:.3f}") -> str:
    """Format a figure; a dash stands for NaN."""
    return "–" if math.isnan(value) else form.format(value)


def pair_list(examples: Sequence[Example], *, empty: str = "None.") -> Html:
    """Return pairs of texts as a list, or a sentence if there are none."""
    if not examples:
        return element("p", empty)
    return element(
        "ol",
        *(
            element(
                "li",
                element("p", example.note, class_="note") if example.note else "",
                example.explanation
                or element("div", *(text_paragraph(text) for text in (example.a, example.b)), class_="pair"),
            )
            for example in examples
        ),
        class_="pairs",
    )


def details(summary: str, *content: str) -> Html:
    """Return content that is folded up until the reader opens it."""
    return element("details", element("summary", summary), *content)


def text_paragraph(text: str) -> Html:
    """Return a user's text as a paragraph, cut if it is long."""
    if not text.strip():
        return element("p", element("em", "empty text"))
    rest = len(text) - _LONGEST_TEXT
    # The direction comes from the text itself, so that it changes nothing around it.
    shown = element("bdi", text[:_LONGEST_TEXT], dir="auto")
    return element("p", shown, element("em", f" … and {rest:,} more characters") if rest > 0 else "")
