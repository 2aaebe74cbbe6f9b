"""The labelling page."""

from __future__ import annotations

from flipkd_sdk import __version__
from flipkd_sdk.pages.html import element, join
from flipkd_sdk.pages.page import Section, page


def label_page(title: str) -> str:
    """Return the page; its script asks for the pairs.

    Args:
        title: what is being labelled.
    """
    buttons = [
        ("match", "Match", "m"),
        ("none", "No match", "n"),
        ("unsure", "Unsure", "u"),
        ("undo", "Undo", "z"),
    ]
    pair = join(
        [
            element("div", role="status", aria_live="polite", data_part="pair"),
            element(
                "p",
                *(
                    element(
                        "button",
                        label,
                        " ",
                        element("kbd", key),
                        type="button",
                        data_answer=name,
                        aria_keyshortcuts=key,
                    )
                    for name, label, key in buttons
                ),
                class_="answers",
            ),
            element("p", role="alert", data_part="message"),
        ]
    )
    sections = [
        Section("pair", "Do these two texts mean the same?", pair),
        Section("progress", "So far", element("div", data_part="progress")),
    ]
    lead = element("p", title)
    footer = f"flipkd label, flipkd_sdk {__version__}. Each answer is on the disk before the next pair is shown."
    return page("Label pairs", lead, sections, footer=footer, scripts=["label.js"], live=True)
