"""What the caller passes in, checked and reduced to its distinct texts.

Every method of the matcher starts here: texts come in some order and repeat, the encoder sees each one once, and errors
name the text by its place in the input. Places count from 0, as in Python.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import InvalidTextError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DistinctTexts:
    """The distinct texts of one call, and where they stood in it."""

    texts: list[str]
    index: NDArray[np.int64]
    """For every text passed, in order, its place in ``texts``; shape (n,)."""
    name: Callable[[int], str]
    """How messages call the i-th text passed."""

    def where(self, place: int) -> str:
        """How messages call the first occurrence of ``texts[place]``."""
        return self.name(int(np.argmax(self.index == place)))


def distinct_texts(texts: Iterable[object], name: Callable[[int], str] = "text {}".format) -> DistinctTexts:
    """Check that every element is a str, and keep each distinct one once, in order of first appearance.

    Raises:
        InvalidTextError: an element is not a str.
    """
    places: dict[str, int] = {}
    index = array("q")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidTextError(f"{name(i)}: expected a str, found {_describe(text)}")
        index.append(places.setdefault(text, len(places)))
    return DistinctTexts(list(places), np.array(index, dtype=np.int64), name)


def distinct_of_pair(a: object, b: object) -> DistinctTexts:
    """The texts of one pair."""
    return distinct_texts((a, b), ("first text", "second text").__getitem__)


def distinct_of_pairs(pairs: Iterable[object]) -> DistinctTexts:
    """The texts of many pairs, a and b in turn.

    Raises:
        InvalidTextError: an element is not a pair of two str.
    """
    return distinct_texts(_flatten(several(pairs, "pairs")), _name_in_pairs)


def distinct_of_two(
    a: Iterable[object], b: Iterable[object], name_a: Callable[[int], str], name_b: Callable[[int], str]
) -> tuple[DistinctTexts, int]:
    """The texts of two collections, those of the first one first, and how many those are.

    Raises:
        InvalidTextError: an element is not a str.
    """
    first = list(a)
    size = len(first)
    found = distinct_texts(chain(first, b), lambda i: name_a(i) if i < size else name_b(i - size))
    return found, size


def several(texts: Iterable[object], what: str) -> Iterable[object]:
    """Refuse a single text where a collection of them is meant: it would be read letter by letter.

    Raises:
        InvalidTextError: ``texts`` is a str, bytes or not iterable at all.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise InvalidTextError(f"{what}: expected an iterable, found {_describe(texts)}; put a single one into a list")
    return texts


def _flatten(pairs: Iterable[object]) -> Iterator[object]:
    for i, pair in enumerate(pairs):
        # A str of two letters would unpack.
        if isinstance(pair, str | bytes) or not isinstance(pair, Iterable):
            raise InvalidTextError(f"pair {i}: expected two texts, found {_describe(pair)}")
        both = tuple(pair)
        if len(both) != 2:
            raise InvalidTextError(f"pair {i}: expected two texts, found {len(both)}")
        yield from both


def _name_in_pairs(i: int) -> str:
    return f"pair {i // 2}, {('first', 'second')[i % 2]} text"


def _describe(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return type(value).__name__
