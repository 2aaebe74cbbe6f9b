"""Pairs made of the texts themselves: one word exchanged for a related one is no match, keywords in any order are.

Rules know the words that a language pack lists. Any other word may be what a decision hangs on, so the head also learns
from texts in which a word has given way to one of the same texts that means something close, but not the same. Rules
that change the order of words make non-matches alone. Keywords in any order teach that order alone decides nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_WORD = re.compile(r"[^\W\d_]{3,}")
_MOST_WORDS = 3000
_FREQUENT = 0.03
"""Words of a larger share of the texts are seldom what a text is about."""
_FUNCTION = 0.15
"""Words of a larger share of the texts are taken for function words."""
_KEYWORDS = 5
"""Most content words of a text that is turned into keywords."""
_DIGIT = re.compile(r"\d")
_FEWEST = 3
_RELATED = (0.25, 0.75)
"""Cosines of the teacher between which words are related and not the same."""
_NEAREST = 60
_STEM = 4
"""Words that begin with as many equal letters are often forms of one word."""
_ROUNDS = 3


def sibling_pairs(
    texts: Sequence[str], encode: Callable[[Sequence[str]], NDArray[np.float32]], *, count: int, seed: int
) -> list[tuple[str, str]]:
    """Return pairs of a text and its copy with one word exchanged.

    Args:
        texts: distinct texts.
        encode: maps words to unit vectors, shape (n, d).
        count: most pairs; fewer where the texts have few words that occur often enough.
        seed: the same texts and seed give the same pairs.
    """
    words = _vocabulary(texts)
    if len(words) < 2:
        return []
    siblings = _siblings(words, encode(words))
    rng = np.random.default_rng(seed)
    pairs: dict[tuple[str, str], None] = {}
    for i in np.concatenate([rng.permutation(len(texts)) for _ in range(_ROUNDS)]).tolist():
        if len(pairs) == count:
            break
        found = [match for match in _WORD.finditer(texts[i]) if siblings.get(match[0].lower())]
        if found:
            chosen = found[int(rng.integers(len(found)))]
            others = siblings[chosen[0].lower()]
            pairs[texts[i], _exchange(texts[i], chosen, others[int(rng.integers(len(others)))])] = None
    return list(pairs)


def keyword_pairs(texts: Sequence[str], *, count: int, seed: int) -> list[tuple[str, str]]:
    """Return matches of a text, or its content words, and the content words in any order, as people type into a search.

    Args:
        texts: distinct texts.
        count: most pairs.
        seed: the same texts and seed give the same pairs.
    """
    most = Counter(word for text in texts for word in {match[0].lower() for match in _WORD.finditer(text)})
    rng = np.random.default_rng(seed)
    pairs: list[tuple[str, str]] = []
    for i in rng.permutation(len(texts)).tolist():
        if len(pairs) == count:
            break
        words = [match[0].lower() for match in _WORD.finditer(texts[i])]
        kept = [word for word in dict.fromkeys(words) if most[word] <= _FUNCTION * len(texts)]
        # Without its numbers or with few of its words, a text may mean something else.
        if 2 <= len(kept) <= _KEYWORDS and not _DIGIT.search(texts[i]):
            one, other = (" ".join(kept[k] for k in rng.permutation(len(kept))) for _ in range(2))
            pairs.append((texts[i] if len(pairs) % 2 else one, other))
    return pairs


def _vocabulary(texts: Sequence[str]) -> list[str]:
    counts = Counter(word for text in texts for word in {match[0].lower() for match in _WORD.finditer(text)})
    most = max(_FREQUENT * len(texts), _FEWEST)
    return [word for word, count in counts.most_common() if _FEWEST <= count <= most][:_MOST_WORDS]


def _siblings(words: Sequence[str], vectors: NDArray[np.float32]) -> dict[str, list[str]]:
    cosines = vectors @ vectors.T
    siblings = {}
    for i, word in enumerate(words):
        nearest = np.argsort(-cosines[i], kind="stable")[:_NEAREST].tolist()
        siblings[word] = [
            words[j] for j in nearest if _RELATED[0] < cosines[i, j] < _RELATED[1] and word[:_STEM] != words[j][:_STEM]
        ]
    return siblings


def _exchange(text: str, word: re.Match[str], other: str) -> str:
    if word[0].isupper():
        other = other.upper()
    elif word[0][0].isupper():
        other = other.capitalize()
    return text[: word.start()] + other + text[word.end() :]
