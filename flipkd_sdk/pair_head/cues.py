"""Cues of the texts themselves for the pair head: numbers, negations, names, common words, and equal form.

Token vectors hold these only vaguely.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flipkd_sdk.pair_head.numbers import NUMBER, numbers_among

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

CUES = 11
EARLIER_CUES = 10
"""Number of cues that heads of earlier releases read, which decide on pairs that share no words too."""
_OTHER_NUMBERS, _OTHER_NAMES, _SAME_FORM, _SHARED_WORDS = 1, 4, 9, 10
_FEW, _MANY = 0.3, 0.5
"""Shares of common words up to which a pair is left to the cosine, and from which on the head decides. Of two sets of
pairs that differ in one detail a twentieth shares fewer than 0.38; of natural pairs of banking a twentieth shares more
than 0.21, of medicine 0.54."""

_NUMBER_OR_WORD = re.compile(rf"{NUMBER}|[^\W\d_]+(?:['’][^\W\d_]+)*")
_DIGIT = re.compile(r"\d")
_NONE: frozenset[str] = frozenset()
_WITHOUT_MEANING = re.compile(r"[^\w%€$£¥+<>=°]|_")
_SENTENCE_END = ".!?:\n"
_FIRST_CJK = "\u2e80"
_SHORT = 4
"""Most words of a text that may be a name and nothing else."""
_TITLE = 0.6
"""Share of capitalized words from which on capitals say nothing."""


class TextCues(NamedTuple):
    """Cues of one text."""

    plain: str
    """The text without case, spaces and punctuation."""
    numbers: frozenset[str]
    negations: int
    """Number of negating words."""
    names: frozenset[str]
    """Capitalized words, except the first one of a sentence, without case."""
    words: tuple[str, ...]
    """All words and numbers without case, sorted."""
    parts: frozenset[str]
    """The same words; of languages without spaces, their signs."""


class CueReader:
    """Reads the cues of texts.

    Args:
        negators: words that negate, without case.
        numbers: value of each number word, without case; those from 100 on multiply.

    Example:
        >>> CueReader(["never"], {"five": 5, "hundred": 100})("I never paid five hundred.").numbers
        frozenset({'500'})
    """

    def __init__(self, negators: Sequence[str] = (), numbers: Mapping[str, float] | None = None) -> None:
        self.negators, self.numbers = tuple(negators), dict(numbers or {})
        # Languages without spaces have no words to look up.
        self._negators = frozenset(word for word in negators if word[0] < _FIRST_CJK)
        signs = sorted(set(negators) - self._negators, key=len, reverse=True)
        self._negating_signs = re.compile("|".join(map(re.escape, signs)) or r"(?!)")
        self._values = {word: Decimal(str(value)) for word, value in self.numbers.items()}

    def __call__(self, text: str) -> TextCues:
        """Return the cues of a text."""
        text = text if text.isascii() else unicodedata.normalize("NFKC", text)
        found = [(match[0], match.start()) for match in _NUMBER_OR_WORD.finditer(text)]
        words = [word.casefold().replace("’", "'") for word, _ in found]
        negations = sum(word in self._negators for word in words) + len(self._negating_signs.findall(text))
        return TextCues(
            _WITHOUT_MEANING.sub("", text.casefold()),
            self._numbers_of(text, words),
            negations,
            _names(text, found),
            tuple(sorted(words)),
            frozenset(part for word in words for part in (word if word[0] >= _FIRST_CJK else (word,))),
        )

    def _numbers_of(self, text: str, words: Sequence[str]) -> frozenset[str]:
        if _DIGIT.search(text) is None and self._values.keys().isdisjoint(words):
            return _NONE
        return frozenset(numbers_among(words, self._values))


def pair_cues(a: Sequence[TextCues], b: Sequence[TextCues]) -> NDArray[np.float32]:
    """Compare the cues of n pairs.

    Returns:
        Shape (n, 11), each 1 or 0 but the last. Numbers: the texts share one, each has one that the other lacks, one of
        them alone has. Names: the same three. Negations: an odd difference, both texts have one. The same words in
        another order. Nothing but case, spaces and punctuation differs. The share of all words that both have.
    """
    rows = [_compared(one, other) for one, other in zip(a, b, strict=True)]
    return np.array(rows, dtype=np.float32).reshape(len(rows), CUES)


def weight_of_head(cues: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much the head counts for each pair beside the cosine.

    The vectors tell texts in other words apart well, and texts that share most words badly. There the head decides, and
    where numbers or names differ. Texts of the same form are left to the cosine too.

    Args:
        cues: from `pair_cues`, shape (n, 10) or (n, 11).

    Returns:
        Shape (n,), in [0, 1].
    """
    if cues.shape[1] == EARLIER_CUES:
        return np.asarray(1 - cues[:, _SAME_FORM])
    share = np.clip((cues[:, _SHARED_WORDS] - np.float32(_FEW)) / np.float32(_MANY - _FEW), 0, 1)
    other = np.maximum(cues[:, _OTHER_NUMBERS], cues[:, _OTHER_NAMES])
    return np.asarray(np.maximum(share, other) * (1 - cues[:, _SAME_FORM]), np.float32)


def same_form(a: TextCues, b: TextCues) -> bool:
    """Return True if two texts differ in nothing but case, spaces and punctuation."""
    return a.plain == b.plain and a.numbers == b.numbers


def _compared(a: TextCues, b: TextCues) -> tuple[float, ...]:
    same = same_form(a, b)
    return (
        *_shared(a.numbers, b.numbers, a.numbers, b.numbers),
        *_shared(a.names, b.names, a.words, b.words),
        (a.negations - b.negations) % 2 == 1,
        a.negations > 0 and b.negations > 0,
        a.words == b.words and not same,
        same,
        len(a.parts & b.parts) / max(len(a.parts | b.parts), 1),
    )


def _shared(
    a: frozenset[str], b: frozenset[str], in_a: frozenset[str] | tuple[str, ...], in_b: frozenset[str] | tuple[str, ...]
) -> tuple[bool, bool, bool]:
    if not a and not b:
        return False, False, False
    more, fewer = not a.issubset(in_b), not b.issubset(in_a)
    return not (a.isdisjoint(in_b) and b.isdisjoint(in_a)), more and fewer, more != fewer


def _names(text: str, found: Sequence[tuple[str, int]]) -> frozenset[str]:
    rest = text[1:]
    if rest == rest.lower():
        return _NONE
    words = [(word, start) for word, start in found if word[0].isalpha()]
    capitals = sum(word[0].isupper() for word, _ in words)
    if text.isupper():
        return _NONE
    if capitals > _TITLE * len(words):
        if len(words) > _SHORT:
            return _NONE
        first_counts = 1 < len(words) == capitals and len(words) == len(found)
    else:
        first_counts = False
    names = set()
    for word, start in words:
        # "I" and its contractions are no names.
        if not word[0].isupper() or (word[0] == "I" and word[1:2] in ("", "'", "’")):
            continue
        before = text[:start].rstrip(" \t\"'“‘(")
        if first_counts or (before and before[-1] not in _SENTENCE_END):
            names.add(word.casefold())
    return frozenset(names)
