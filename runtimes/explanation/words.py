"""Words of a text from the spans of its tokens."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from flipkd_sdk.runtimes.explanation.explanation import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

_JOINERS = "'’_"


def words_of(text: str, spans: Sequence[tuple[int, int]]) -> tuple[tuple[Word, ...], list[int]]:
    """Merge tokens to words.

    Letters and digits in a row are one word, in scripts without spaces each token is one, and tokens that share a
    character belong together. Tokens without a character of their own belong to a word beside them.

    Args:
        text: the text.
        spans: first character of each token and the one after its last, in order.

    Returns:
        The words, and the index of the first token of each.
    """
    words: list[tuple[int, int]] = []
    starts: list[int] = []
    for index, span in enumerate(spans):
        start, end = _stripped(text, *span)
        if words and start == end:
            continue
        if words and (start < words[-1][1] or _is_inside_word(text, start, words[-1][1])):
            words[-1] = (min(start, words[-1][0]), max(end, words[-1][1]))
            continue
        if words and words[-1][0] == words[-1][1]:
            # Spaces and added tokens in front of the first word belong to it.
            words[-1] = (start, end)
            continue
        words.append((start, end))
        starts.append(index)
    return tuple(Word(text[start:end], start, end) for start, end in words), starts


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span without the white space at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _is_inside_word(text: str, start: int, last_end: int) -> bool:
    """Return True if a token goes on with the word in front of it."""
    return start == last_end and 0 < start < len(text) and _spelled(text[start - 1]) and _spelled(text[start])


def _spelled(character: str) -> bool:
    """Return True for letters, digits and marks of scripts with spaces between words."""
    if character in _JOINERS:
        return True
    # Hangul is wide but has spaces.
    ideographic = unicodedata.east_asian_width(character) in "WF" and not "\uac00" <= character <= "\ud7a3"
    return unicodedata.category(character)[0] in "LMN" and not ideographic
