"""Checks of the caller's texts, and their reduction to distinct texts.

Texts may repeat, the encoder runs each one once, and errors name a text by its index in the input.
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
    """The distinct texts of one call and their positions in it."""

    texts: list[str]
    index: NDArray[np.int64]
    """For every input, in order, the index of its text in ``texts``; shape (n,)."""
    name: Callable[[int], str]
    """Name of input i in error messages."""

    def name_of(self, i: int) -> str:
        """Return the name of the first input with ``texts[i]`` in error messages."""
        return self.name(int(np.argmax(self.index == i)))


def distinct_texts(texts: Iterable[object], name: Callable[[int], str] = "text {}".format) -> DistinctTexts:
    """Check that every element is a str, and keep each distinct text once, in order of first occurrence.

    Raises:
        InvalidTextError: an element is not a str.
    """
    indices: dict[str, int] = {}
    index = array("q")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidTextError(f"{name(i)}: expected a str, found {_describe(text)}")
        index.append(indices.setdefault(text, len(indices)))
    return DistinctTexts(list(indices), np.array(index, dtype=np.int64), name)


def distinct_of_pair(a: object, b: object) -> DistinctTexts:
    """Return the texts of one pair."""
    return distinct_texts((a, b), ("first text", "second text").__getitem__)


def distinct_query(query: object) -> DistinctTexts:
    """Return the text of a query."""
    return distinct_texts((query,), lambda _: "query")


def distinct_of_pairs(pairs: Iterable[object]) -> DistinctTexts:
    """Return the texts of pairs, a and b in turn.

    Raises:
        InvalidTextError: an element is not a pair of two str.
    """
    return distinct_texts(_flatten(several(pairs, "pairs")), _name_in_pairs)


def distinct_of_two(
    a: Iterable[object], b: Iterable[object], name_a: Callable[[int], str], name_b: Callable[[int], str]
) -> tuple[DistinctTexts, int]:
    """Return the texts of two collections, one after the other, and the size of the first.

    Raises:
        InvalidTextError: an element is not a str.
    """
    first = list(a)
    size = len(first)
    return distinct_texts(chain(first, b), lambda i: name_a(i) if i < size else name_b(i - size)), size


def several(texts: Iterable[object], what: str) -> Iterable[object]:
    """Refuse a single text in place of a collection, because it would be read letter by letter.

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
