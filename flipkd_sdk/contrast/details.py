"""Texts with a detail added: an amount, a name, a date. Short texts have few details of their own to change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from flipkd_sdk.contrast.pack import Details

_SLOT = re.compile(r"\{([a-z_]+)\}")
_FINAL = " \t\n.!?。！？"
_ALONE = 0.05
"""Texts that are a detail and nothing else, for each text."""


def with_details(texts: Sequence[str], details: Details, rng: np.random.Generator) -> list[str]:
    """Return a copy of each text with a detail added, and some texts that are a detail alone."""
    detailed = []
    if details.endings:
        for text in texts:
            template = details.endings[int(rng.integers(len(details.endings)))]
            detailed.append(_added(text, _drawn(template, details, rng)))
    if details.alone:
        for _ in range(int(len(texts) * _ALONE)):
            template = details.alone[int(rng.integers(len(details.alone)))]
            detailed.append(_drawn(template, details, rng))
    return detailed


def _drawn(template: str, details: Details, rng: np.random.Generator) -> str:
    def word(match: re.Match[str]) -> str:
        words = details.lists[match[1]]
        return words[int(rng.integers(len(words)))]

    return _SLOT.sub(word, template)


def _added(text: str, detail: str) -> str:
    if detail.startswith(" "):
        bare = text.rstrip(_FINAL)
        return bare + detail + text[len(bare) :]
    text = text.rstrip()
    return f"{text} {detail}" if text.endswith((".", "!", "?")) else f"{text}. {detail}"
