"""`link`: matching rows of two tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flipkd_sdk.runtimes.encoding.inputs import distinct_texts, several
from flipkd_sdk.runtimes.linkage.assignment import Matches, assign
from flipkd_sdk.runtimes.linkage.decide import (
    NEIGHBOURS,
    Decider,
    LocalDecider,
    decided,
    least_cosine,
    least_score,
)
from flipkd_sdk.runtimes.linkage.proposals import Search, check_search, proposed
from flipkd_sdk.runtimes.options import check_integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts
    from flipkd_sdk.runtimes.matcher import Matcher


class Links(NamedTuple):
    """Matches, by row of the first table and from the best to the worst."""

    a: NDArray[np.int64]
    """Rows of the first table, from 0, shape (n,)."""
    b: NDArray[np.int64]
    """Rows of the second table, from 0, shape (n,)."""
    score: NDArray[np.float32]
    """Shape (n,)."""
    threshold: float
    """Least score of a match."""


class Side(NamedTuple):
    """Texts of one table, encoded."""

    distinct: DistinctTexts
    vectors: NDArray[np.float32]
    """Unit vectors of the distinct texts, shape (distinct, d)."""


def link(
    matcher: Matcher,
    a_texts: Iterable[str],
    b_texts: Iterable[str],
    *,
    threshold: float | None = None,
    top_k: int = 1,
    one_to_one: bool = False,
    neighbours: int = NEIGHBOURS,
    search: Search = "auto",
    search_with: Matcher | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Links:
    """Return the matches of the texts of one table among those of another.

    Each distinct text is encoded once. With a pair head, the cosine proposes pairs and the head
    decides on them; a score is the one that `Matcher.score` returns.

    Args:
        matcher: the matcher.
        a_texts: texts of the first table, row by row.
        b_texts: texts of the second table, row by row.
        threshold: least score of a match; None for `Matcher.search_threshold`.
        top_k: largest number of matches of a row of the first table.
        one_to_one: put each row of either table into one match at most, see `flipkd_sdk.runtimes.linkage.assignment`.
        neighbours: number of distinct texts per text that the pair head decides on, at least ``top_k``.
        search: as for `dedupe`; ``"auto"`` counts the distinct texts of the shorter table.
        search_with: another matcher that proposes the pairs, such as a static one; ``matcher`` scores them.
        progress: called with a step, the number of items done and their total; may raise to stop.

    Raises:
        InvalidTextError: an element is not a str; the message names it.
        ConfigError: an option has an invalid value.
        ModuleNotFoundError: the extra for ``search="ann"`` is not installed.
        MatcherClosedError: the matcher was closed.

    Example:
        >>> link(matcher, ["forgot my PIN"], ["How do I reset my PIN?", "Top up"]).b
        array([0])
    """
    check_search(search)
    decider = LocalDecider(matcher, search_with)
    sides = []
    for texts, name in ((a_texts, "a_texts"), (b_texts, "b_texts")):
        distinct = distinct_texts(several(texts, name), f"{name}, text {{}}".format)
        sides.append(Side(distinct, decider.encode(distinct)))
    return link_sides(
        decider,
        *sides,
        threshold=least_score(decider, threshold),
        top_k=top_k,
        one_to_one=one_to_one,
        neighbours=neighbours,
        search=search,
        progress=progress,
    )


def link_sides(
    decider: Decider,
    a: Side,
    b: Side,
    *,
    threshold: float,
    top_k: int = 1,
    one_to_one: bool = False,
    neighbours: int = NEIGHBOURS,
    search: Search = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Links:
    """Return the matches of two tables whose texts are encoded; see `link`."""
    check_integer("top_k", top_k)
    check_integer("neighbours", neighbours)
    never = decider.never_match(a.distinct.texts), decider.never_match(b.distinct.texts)
    # An assignment may need a row's second choice.
    most = max(top_k, neighbours if decider.has_head or one_to_one else 1)
    least = least_cosine(decider, threshold)
    pairs = proposed(a.vectors, b.vectors, never, least=least, most=most, search=search, progress=progress)
    scores = decided(decider, a.distinct.texts, b.distinct.texts, pairs, progress)
    high = scores.astype(np.float64) >= threshold
    matches = Matches(pairs.a[high], pairs.b[high], scores[high])
    a_rows, b_rows = _Rows(a.distinct.index), _Rows(b.distinct.index)
    rows, columns, found = _assigned(matches, a_rows, b_rows) if one_to_one else _best(matches, a_rows, b_rows, top_k)
    order = np.lexsort((columns, -found, rows))
    return Links(rows[order], columns[order], found[order], threshold)


def _best(
    matches: Matches, a_rows: _Rows, b_rows: _Rows, top_k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the best rows for each row; equal texts by their first row, so that the product of equal rows is cut."""
    parts = _Parts()
    taken_of, taken = -1, 0
    for pair in np.lexsort((b_rows.first(matches.b), -matches.score, matches.a)).tolist():
        text = int(matches.a[pair])
        if text != taken_of:
            taken_of, taken = text, 0
        left, right = a_rows.of(text), b_rows.of(int(matches.b[pair]))[: top_k - taken]
        taken += len(right)
        parts.add(np.repeat(left, len(right)), np.tile(right, len(left)), matches.score[pair])
    return parts.joined()


def _assigned(
    matches: Matches, a_rows: _Rows, b_rows: _Rows
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return one-to-one matches of rows; equal ones are interchangeable, so texts are assigned with their numbers."""
    parts = _Parts()
    used_a, used_b = np.zeros_like(a_rows.counts), np.zeros_like(b_rows.counts)
    numbers = assign(matches, a_rows.counts, b_rows.counts)
    for pair in np.flatnonzero(numbers).tolist():
        a, b, number = int(matches.a[pair]), int(matches.b[pair]), int(numbers[pair])
        left, right = a_rows.of(a)[used_a[a] :][:number], b_rows.of(b)[used_b[b] :][:number]
        used_a[a] += number
        used_b[b] += number
        parts.add(left, right, matches.score[pair])
    return parts.joined()


class _Parts:
    """Matches of rows, some at a time."""

    def __init__(self) -> None:
        self._a: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._b: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._score: list[NDArray[np.float32]] = [np.empty(0, np.float32)]

    def add(self, a: NDArray[np.int64], b: NDArray[np.int64], score: np.float32) -> None:
        """Add matches of one score."""
        self._a.append(a)
        self._b.append(b)
        self._score.append(np.full(len(a), score, dtype=np.float32))

    def joined(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return all of them."""
        return np.concatenate(self._a), np.concatenate(self._b), np.concatenate(self._score)


class _Rows:
    """Rows of each distinct text."""

    def __init__(self, index: NDArray[np.int64]) -> None:
        self._order: NDArray[np.int64] = np.argsort(index, kind="stable")
        self.counts = np.bincount(index)
        self._starts = np.concatenate([[0], np.cumsum(self.counts)])

    def of(self, text: int) -> NDArray[np.int64]:
        """Return the rows of a text, ascending."""
        return self._order[self._starts[text] : self._starts[text + 1]]

    def first(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first row of each of some texts."""
        rows: NDArray[np.int64] = self._order[self._starts[texts]]
        return rows
