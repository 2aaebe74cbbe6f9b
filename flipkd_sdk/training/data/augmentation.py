"""Altered copies of texts for small corpora: a teacher encodes any text, meaningful or not.

Reference: Tang et al., "Distilling task-specific knowledge from BERT into simple neural networks", 2019 (arXiv
1903.12136), which augments a distillation corpus with n-gram samples and replaced words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.random import Generator

_LEFT_OUT, _REPLACED = 0.1, 0.15
"""Shares of the words of a part."""
_TRIES = 4
"""Rounds over all texts without a new copy after which the search ends."""


def altered_copies(texts: Sequence[str], count: int, *, without: Collection[str] = (), seed: int) -> list[str]:
    """Make altered copies of texts, one of each text in turn.

    A copy is a contiguous part of a text, at least half of it, from which a tenth of the words is left out. One in
    seven of the other words is replaced by a word of all texts, drawn by its frequency. Characters take the place of
    words in a text without spaces.

    Args:
        texts: the originals.
        count: number of copies.
        without: texts that no copy may equal, in addition to the originals.
        seed: seed of the draws.

    Returns:
        Distinct copies; fewer than ``count`` if no more can be found.
    """
    if count <= 0:
        return []
    random = np.random.default_rng(seed)
    split = [_words(text) for text in texts]
    vocabulary: dict[str, list[str]] = {" ": [], "": []}
    for words, space in split:
        vocabulary[space] += words
    taken = {*texts, *without, ""}
    copies: list[str] = []
    idle = 0
    while len(copies) < count and idle < _TRIES:
        before = len(copies)
        for words, space in split:
            copy = space.join(_altered(words, vocabulary[space], random))
            if copy not in taken:
                taken.add(copy)
                copies.append(copy)
            if len(copies) == count:
                break
        idle = 0 if len(copies) > before else idle + 1
    return copies


def _words(text: str) -> tuple[list[str], str]:
    """Return a text's words, or its characters if it has no space, and their separator."""
    words = text.split()
    return (words, " ") if len(words) > 1 else (list(text.strip()), "")


def _altered(words: Sequence[str], others: Sequence[str], random: Generator) -> list[str]:
    if not words:
        return []
    length = int(random.integers((len(words) + 1) // 2, len(words) + 1))
    start = int(random.integers(0, len(words) - length + 1))
    part = words[start : start + length]
    draws = random.random((2, length))
    strangers = random.integers(0, len(others), length)
    return [
        others[stranger] if replaced < _REPLACED else word
        for word, left_out, replaced, stranger in zip(part, *draws, strangers, strict=True)
        if left_out >= _LEFT_OUT
    ]
