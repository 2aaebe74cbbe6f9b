"""Explanations as HTML."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.pages.html import Html, element, join
from flipkd_sdk.pages.parts import table

if TYPE_CHECKING:
    from flipkd_sdk.runtimes.explanation.explanation import Explanation, Word

_SHADES = 4
_ROWS = 8
"""Pairs of words in the table."""


def explanation_html(explanation: Explanation, *, styled: bool) -> Html:
    """Return both texts with their words shaded by contribution, and the strongest pairs of words."""
    largest = max(
        float(np.abs(explanation.contributions_a).max(initial=0)),
        float(np.abs(explanation.contributions_b).max(initial=0)),
    )
    texts = [
        _text(explanation.a, explanation.words_a, explanation.contributions_a.tolist(), largest),
        _text(explanation.b, explanation.words_b, explanation.contributions_b.tolist(), largest),
    ]
    style = files("flipkd_sdk.pages").joinpath("explanation.css").read_text(encoding="utf-8") if styled else ""
    return element(
        "div",
        element("style", Html(style)) if styled else "",
        element("p", _summary(explanation), class_="sum"),
        element("div", *texts, class_="pair"),
        _alone(explanation),
        _strongest(explanation),
        class_="explanation",
    )


def _summary(explanation: Explanation) -> str:
    decision = "a match" if explanation.match else "no match"
    words = explanation.cosine - explanation.baseline
    parts = f"score {explanation.score:.3f}, {decision} (threshold {explanation.threshold:.3f}); cosine "
    if explanation.baseline == 0:
        return f"{parts}{explanation.cosine:.3f}"
    return f"{parts}{explanation.cosine:.3f} = {explanation.baseline:.3f} shared with the background {words:+.3f} words"


def _text(text: str, words: tuple[Word, ...], values: list[float], largest: float) -> Html:
    parts: list[str] = []
    place = 0
    for word, value in zip(words, values, strict=True):
        if not word.text:
            continue
        parts += [text[place : word.start], _word(word.text, value, largest)]
        place = word.end
    rest = text[place:]
    # The matcher has not read what follows its last token.
    parts.append(element("em", rest) if rest.strip() else "")
    content = join(parts) if text.strip() else element("em", "empty text")
    return element("p", element("bdi", content, dir="auto"))


def _word(text: str, value: float, largest: float) -> Html:
    shade = round(_SHADES * abs(value) / largest) if largest > 0 else 0
    kind = f"{'for' if value > 0 else 'against'}-{shade}" if shade else None
    return element("span", text, class_=kind, title=f"{value:+.3f}")


def _strongest(explanation: Explanation) -> Html:
    alignment = explanation.alignment
    rows = []
    for pair in explanation.strongest(_ROWS):
        words = explanation.words_a[pair.a].text, explanation.words_b[pair.b].text
        row = [*(element("bdi", word or "(added token)") for word in words), f"{pair.contribution:+.3f}"]
        if alignment is not None:
            row.append(f"{(alignment.a_to_b[pair.a, pair.b] + alignment.b_to_a[pair.b, pair.a]) / 2:.0%}")
        rows.append(row)
    head = ["word", "word", "contribution", *([] if alignment is None else ["aligned by the pair head"])]
    return table(head, rows, caption="Pairs of words that contribute most", text_columns=(0, 1))


def _alone(explanation: Explanation) -> Html | str:
    alone = [*explanation.unaligned_a, *explanation.unaligned_b]
    if not alone:
        return ""
    words = [element("bdi", word.text) for word in alone]
    return element("p", "Without a partner, by the pair head: ", *_separated(words), class_="alone")


def _separated(words: list[Html]) -> list[str]:
    return [part for word in words for part in (", ", word)][1:]
