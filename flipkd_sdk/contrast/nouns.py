"""Nouns of the same kind, found in the texts themselves by the contexts that they share.

Two words are of the same kind if they occur between the same neighbours at several places: "block my card" and "block
my account" share one such frame. A word is exchanged only where the texts contain its partner beside the same left and
the same right neighbours, which also keeps "a" and "an" right.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flipkd_sdk.contrast.pack import Nouns
from flipkd_sdk.contrast.rewriting import in_case_of, is_protected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np

    from flipkd_sdk.contrast.pack import LanguagePack

_MAX_TEXTS = 20_000  # Bounds memory; the frames of frequent nouns are found in fewer.
_MAX_WORDS = 2_000
_MAX_SHARING = 40  # A frame that more words share describes none of them.
_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+|\S")
_CHARACTERS = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]+")
_MIN_SHARE = 0.08
_MAX_PARTNERS = 8
_EDGE = "\n"


class _Place(NamedTuple):
    """An occurrence of a word, with its neighbours."""

    word: str
    start: int
    left: str
    right: str
    frame: tuple[str, str]


@dataclass(frozen=True, slots=True)
class NounIndex:
    """Nouns of the same kind, and the neighbours of each."""

    spaced: bool
    rules: Nouns
    partners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left: Mapping[str, frozenset[str]] = field(default_factory=dict)
    right: Mapping[str, frozenset[str]] = field(default_factory=dict)


def mine_nouns(texts: Iterable[str], pack: LanguagePack) -> NounIndex:
    """Find nouns of the same kind among the words of some texts."""
    if pack.nouns is None:
        return NounIndex(pack.spaced, Nouns())
    counts: Counter[str] = Counter()
    left: dict[str, Counter[str]] = defaultdict(Counter)
    right: dict[str, Counter[str]] = defaultdict(Counter)
    frames: dict[str, set[tuple[str, str]]] = defaultdict(set)
    texts = list(itertools.islice(texts, _MAX_TEXTS))
    for text in texts:
        counts.update(place.word for place in _places(text, pack.spaced, pack.nouns))
    minimum = 3 if pack.spaced else 5
    words = {word for word, count in counts.most_common(_MAX_WORDS) if count >= minimum}
    for text in texts:
        for place in _places(text, pack.spaced, pack.nouns):
            if place.word in words:
                left[place.word][place.left] += 1
                right[place.word][place.right] += 1
                frames[place.word].add(place.frame)
    if not pack.spaced:
        words = {word for word in words if _is_free(left[word]) and _is_free(right[word])}
    return NounIndex(
        pack.spaced,
        pack.nouns,
        _partners({word: frames[word] for word in sorted(words)}, pack.spaced, pack.nouns),
        {word: frozenset(left[word]) for word in words},
        {word: frozenset(right[word]) for word in words},
    )


def other_noun(text: str, index: NounIndex, pack: LanguagePack, rng: np.random.Generator) -> str | None:
    """Exchange one noun for another one of its kind that occurs between the same neighbours."""
    found = [
        (place, other)
        for place in _places(text, index.spaced, index.rules)
        for other in index.partners.get(place.word, ())
        if place.left in index.left[other]
        and place.right in index.right[other]
        # A noun that the text already contains would make a text about two things a text about one.
        and other not in text.casefold()
    ]
    if not found:
        return None
    place, other = found[int(rng.integers(len(found)))]
    end = place.start + len(place.word)
    if is_protected(pack, text, place.start, end):
        return None
    return text[: place.start] + in_case_of(text[place.start : end], other) + text[end:]


def _places(text: str, spaced: bool, rules: Nouns) -> Iterator[_Place]:
    yield from _spaced_places(text, rules) if spaced else _unspaced_places(text, rules)


def _spaced_places(text: str, rules: Nouns) -> Iterator[_Place]:
    tokens = [(match[0].casefold(), match.start()) for match in _TOKEN.finditer(text)]
    words = [_EDGE, _EDGE, *(token for token, _ in tokens), _EDGE]
    for i, (word, start) in enumerate(tokens):
        before, left, right = words[i], words[i + 1], words[i + 3]
        # Case folding that changes the length would cut the text at a wrong place.
        if left not in rules.before or len(word) < 3 or word in rules.never or not word.isalpha():
            continue
        if text[start : start + len(word)].lower() == word:
            context = f"{before} {left}"
            yield _Place(word, start, context, _mark(right), (context, _mark(right)))


def _mark(neighbour: str) -> str:
    """Return one sign for the end of the text and all marks that end a phrase."""
    return _EDGE if neighbour in tuple(".,;:!?") else neighbour


def _unspaced_places(text: str, rules: Nouns) -> Iterator[_Place]:
    padded = _EDGE * 2 + text + _EDGE * 2
    for run in _CHARACTERS.finditer(text):
        for start, size in itertools.product(range(run.start(), run.end() - 1), (2, 3, 4)):
            end = start + size
            word = text[start:end]
            if end > run.end() or not rules.never.isdisjoint(word):
                continue
            before, after = padded[start : start + 2], padded[end + 2 : end + 4]
            yield _Place(word, start, before[1], after[0], (before, after))


def _is_free(neighbours: Counter[str]) -> bool:
    """Return whether a string of characters is a word: no single neighbour goes with it in most places."""
    return len(neighbours) >= 3 and max(neighbours.values()) <= 0.5 * neighbours.total()


def _partners(frames: Mapping[str, set[tuple[str, str]]], spaced: bool, rules: Nouns) -> dict[str, tuple[str, ...]]:
    sharing: dict[tuple[str, str], list[str]] = defaultdict(list)
    for word, places in frames.items():
        for frame in places:
            sharing[frame].append(word)
    shared: Counter[tuple[str, str]] = Counter()
    for words in sharing.values():
        if len(words) <= _MAX_SHARING:
            shared.update(itertools.combinations(words, 2))
    ranked: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for (one, other), count in shared.items():
        # The share of common frames (a cosine) leaves out pairs that only the commonest frames join.
        share = count / (len(frames[one]) * len(frames[other])) ** 0.5
        if count >= 3 and share >= _MIN_SHARE and not _too_close(one, other, spaced, rules):
            ranked[one].append((-share, other))
            ranked[other].append((-share, one))
    return {word: tuple(other for _, other in sorted(others)[:_MAX_PARTNERS]) for word, others in ranked.items()}


def _too_close(one: str, other: str, spaced: bool, rules: Nouns) -> bool:
    """Return whether two words may mean the same, or differ in number."""
    if any(one in words and other in words for words in rules.synonyms):
        return True
    if not spaced:
        # Strings of characters share parts: where they differ, they may be synonyms or the same.
        start = len(common_start(one, other))
        end = len(common_start(one[start:][::-1], other[start:][::-1]))
        one, other = one[start : len(one) - end], other[start : len(other) - end]
        return not one or not other or any(one in words and other in words for words in rules.synonyms)
    if one.endswith("s") != other.endswith("s"):
        return True
    common = len(common_start(one, other))
    return common >= 4 or _one_edit_apart(one, other)


def common_start(one: str, other: str) -> str:
    """Return the longest string that two words begin with."""
    return "".join(a for a, _ in itertools.takewhile(lambda ab: ab[0] == ab[1], zip(one, other, strict=False)))


def _one_edit_apart(one: str, other: str) -> bool:
    start = len(common_start(one, other))
    end = len(common_start(one[start:][::-1], other[start:][::-1]))
    return max(len(one), len(other)) - start - end <= 1
