"""Section with a threshold slider: decisions in counts and their cost, for each position of the slider."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.metrics import at_threshold
from flipkd_sdk.evaluation.scored import confusion
from flipkd_sdk.pages.curves import score_histogram
from flipkd_sdk.pages.html import Html, element, join
from flipkd_sdk.pages.page import Section

if TYPE_CHECKING:
    from flipkd_sdk.evaluation.scored import Scored

SCRIPT = "threshold.js"
"""Script that the page must include."""
# Searches need thresholds close to 1.
_THRESHOLDS = np.union1d(np.arange(1001) / 1000, np.arange(9900, 10001) / 10000)


def threshold_section(scored: Scored, threshold: float, *, note: str) -> Section:
    """Return the section.

    Args:
        scored: scores and labels.
        threshold: the threshold in use, the slider's first position.
        note: which pairs these are, and how to read figures of a threshold chosen on them.
    """
    intro = (
        f"A pair is called a match if its score is at least the threshold, now {threshold:.4f}. A higher threshold "
        "makes fewer false matches and misses more matches."
    )
    body = element(
        "div",
        element("p", intro),
        element(
            "div",
            element("div", score_histogram("Scores by label", scored, threshold), _controls(threshold)),
            _decisions(scored, threshold),
            class_="decide",
        ),
        class_="threshold",
        data_counts=json.dumps(_counts(scored, threshold), separators=(",", ":")),
    )
    return Section("threshold", "Threshold and costs", join([body, element("p", note)]))


def _counts(scored: Scored, threshold: float) -> dict[str, object]:
    thresholds = np.union1d(_THRESHOLDS, [threshold])
    matches = int(scored.label.sum())
    return {
        "thresholds": np.round(thresholds, 4).tolist(),
        "start": int(np.searchsorted(thresholds, threshold)),
        "found": scored.at_least(thresholds, 1).tolist(),
        "false": scored.at_least(thresholds, 0).tolist(),
        "matches": matches,
        "others": len(scored.label) - matches,
    }


def _controls(threshold: float) -> Html:
    """Return slider, buttons and costs, hidden until the script runs: without it they have no effect."""
    slider = element(
        "input", type="range", id="threshold-slider", min=0, max=len(_THRESHOLDS), step=1, data_part="slider"
    )
    label = element(
        "label", "Threshold ", element("output", f"{threshold:.4f}", data_part="value"), for_="threshold-slider"
    )
    buttons = element(
        "p",
        element("button", f"Threshold in use, {threshold:.4f}", type="button", data_part="reset"),
        element("button", "Threshold of the lowest cost", type="button", data_part="cheapest"),
    )
    names = (("cost-false", "false match"), ("cost-missed", "missed match"))
    costs = element("p", *(_cost(name, part) for part, name in names), class_="costs")
    return element("div", label, slider, costs, buttons, class_="controls", data_part="controls", hidden=True)


def _cost(name: str, part: str) -> Html:
    return element(
        "label", f"Cost of a {name} ", element("input", type="number", min=0, step="any", value=1, data_part=part)
    )


def _decisions(scored: Scored, threshold: float) -> Html:
    counts = confusion(scored, threshold)
    measures = at_threshold(scored.probability, scored.label, threshold)
    head = element("tr", *(element("th", text, scope="col") for text in ("", "called a match", "called no match")))

    def row(name: str, *cells: tuple[str, int, str]) -> Html:
        return element("tr", element("th", name, scope="row"), *(_count(*cell) for cell in cells))

    table = element(
        "table",
        element("caption", "Decisions in pairs"),
        element("thead", head),
        element(
            "tbody",
            row("labelled a match", ("found", counts.found, "found"), ("missed", counts.missed, "missed matches")),
            row(
                "labelled no match",
                ("false", counts.false, "false matches"),
                ("rejected", counts.rejected, "correctly rejected"),
            ),
        ),
        class_="confusion",
    )
    rates = [
        ("precision", "of the pairs called a match are matches (precision)"),
        ("recall", "of the matches are found (recall)"),
        ("accuracy", "of all decisions are right (accuracy)"),
    ]
    lines = [element("li", element("strong", f"{measures[n]:.1%}", data_part=n), " ", text) for n, text in rates]
    cost = element("p", data_part="cost", role="status")
    return element("div", table, element("ul", *lines, class_="rates"), cost)


def _count(part: str, count: int, meaning: str) -> Html:
    kind = "right" if part in ("found", "rejected") else "wrong"
    return element("td", element("strong", f"{count:,}", data_part=part), " ", element("small", meaning), class_=kind)
