"""Cues of the texts themselves for the pair head: numbers in digits, and whether only case and punctuation differ.

Token vectors hold both only vaguely.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CUES = 4

_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d+(?:[.,'\u00a0\u202f ]\d{3}(?!\d))*(?:[.,]\d+)?")
_SEPARATOR = re.compile(r"['\u00a0\u202f ]|[.,](?=\d{3}(?!\d))")
_WITHOUT_MEANING = re.compile(r"[^\w%€$£¥+<>=°]|_")
_NONE: frozenset[str] = frozenset()


class TextCues(NamedTuple):
    """Cues of one text."""

    plain: str
    """The text without case, spaces and punctuation."""
    numbers: frozenset[str]


def cues_of(text: str) -> TextCues:
    """Return the cues of a text.

    Example:
        >>> cues_of("Pay 1,000.50 EUR!")
        TextCues(plain='pay100050eur', numbers=frozenset({'1000.5'}))
    """
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return TextCues(_WITHOUT_MEANING.sub("", text.casefold()), _numbers(text))


def pair_cues(a: Sequence[TextCues], b: Sequence[TextCues]) -> NDArray[np.float32]:
    """Compare the cues of n pairs.

    Returns:
        Shape (n, 4): 1 if the texts share a number, if each has one that the other lacks, if one of them alone has,
        and if they differ in nothing but case, spaces and punctuation.
    """
    cues = np.zeros((len(a), CUES), dtype=np.float32)
    for row, (one, other) in enumerate(zip(a, b, strict=True)):
        if one.numbers or other.numbers:
            more, fewer = bool(one.numbers - other.numbers), bool(other.numbers - one.numbers)
            cues[row, :3] = bool(one.numbers & other.numbers), more and fewer, more != fewer
        cues[row, 3] = one == other
    return cues


def _numbers(text: str) -> frozenset[str]:
    """Return the numbers of a text, without thousands separators, leading zeros and trailing decimal zeros."""
    if _DIGIT.search(text) is None:
        return _NONE
    found = set()
    for match in _NUMBER.finditer(text):
        whole, _, decimals = _SEPARATOR.sub("", match[0]).replace(",", ".").partition(".")
        decimals = decimals.rstrip("0")
        found.add((whole.lstrip("0") or "0") + (f".{decimals}" if decimals else ""))
    return frozenset(found)
