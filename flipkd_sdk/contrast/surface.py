"""Changes of the surface that leave the meaning: case, punctuation and typing errors."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import numpy as np

_FULL_WIDTH = str.maketrans(",?!:;()", "，？！：；（）")
_HALF_WIDTH = str.maketrans("，？！：；（）。", ",?!:;().")
_FINAL = re.compile(r"[.!?。！？…]+\s*$")
_WORD = re.compile(r"(?<![\w'’@./-])[a-z]{5,}(?![\w'’@/-])")


def other_case(text: str, rng: np.random.Generator) -> str | None:
    """Write a text in small letters, in capitals, or with another first letter."""
    ways: list[Callable[[str], str]] = [str.lower, str.upper, lambda text: text[:1].swapcase() + text[1:]]
    return _one_of([way(text) for way in ways], text, rng)


def other_punctuation(text: str, rng: np.random.Generator) -> str | None:
    """Leave out, repeat or widen punctuation marks, none of which changes the meaning."""
    bare = _FINAL.sub("", text)
    ways = [bare]
    if text.rstrip().endswith(("?", "？")):
        mark = text.rstrip()[-1]
        ways += [f"{bare} {mark}" if mark == "?" else bare + "?", bare + mark * 2]
    elif re.search(r"\w$", text.rstrip()):
        ways.append(text.rstrip() + ("。" if _is_cjk(text.rstrip()[-1]) else "."))
    elif text.rstrip().endswith("."):
        ways.append(bare + "!")
    if any(map(_is_cjk, text)):
        # Half-width marks may be decimal or thousands separators, so they are widened only beside no digit.
        if not re.search(r"\d[,:]\d", text):
            ways.append(text.translate(_FULL_WIDTH))
        ways.append(text.translate(_HALF_WIDTH))
    return _one_of([way for way in ways if way.strip()], text, rng)


def with_typo(text: str, vocabulary: Collection[str], kept: Collection[str], rng: np.random.Generator) -> str | None:
    """Mistype one word of at least five small letters.

    Args:
        text: any text.
        vocabulary: words that an error must not produce.
        kept: words that are left alone, because another word of the same set means something else.
        rng: decides on the word and the error.
    """
    words = [match for match in _WORD.finditer(text) if match[0] not in kept]
    if not words:
        return None
    match = words[int(rng.integers(len(words)))]
    word = match[0]
    place = int(rng.integers(1, len(word) - 1))
    ways = [
        word[:place] + word[place + 1] + word[place] + word[place + 2 :],
        word[:place] + word[place + 1 :],
        word[:place] + word[place] + word[place:],
    ]
    new = _one_of([way for way in ways if way not in vocabulary], word, rng)
    return None if new is None else text[: match.start()] + new + text[match.end() :]


def _one_of(ways: list[str], text: str, rng: np.random.Generator) -> str | None:
    others = [way for way in dict.fromkeys(ways) if way != text]
    return others[int(rng.integers(len(others)))] if others else None


def _is_cjk(sign: str) -> bool:
    return unicodedata.name(sign, "").startswith("CJK")
