"""Altered copies of texts, where there are few: a teacher of vectors can be asked about anything, sense or not.

Reference: Tang et al., "Distilling task-specific knowledge from BERT into simple neural networks", 2019 (arXiv
1903.12136), where samples of n-grams and replaced words show the student more of what its teacher computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.random import Generator

_LEFT_OUT, _REPLACED = 0.1, 0.15
"""Shares of a part's words."""
_TRIES = 4
"""Rounds over all texts without a new copy, after which there is none to be had."""


def altered_copies(texts: Sequence[str], count: int, *, without: Collection[str] = (), seed: int) -> list[str]:
    """Make new texts out of texts, from each in turn.

    A copy is a contiguous part of a text, half of it at least, in which a tenth of the words is left out and of the
    others one in seven is another word of the texts, drawn as often as it occurs. Where a text is not written in words
    with spaces between them, characters take the words' place.

    Args:
        texts: what to start from.
        count: how many copies.
        without: texts that no copy may equal, besides those that there are.
        seed: of the draws.

    Returns:
        Distinct copies, fewer than ``count`` where so many cannot be found.
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
    """A text's words, or its characters where no space parts it, and what joins them."""
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
