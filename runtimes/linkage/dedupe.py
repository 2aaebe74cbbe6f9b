"""`dedupe`: groups of rows of one table whose texts mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.runtimes.encoding.inputs import distinct_texts, several
from flipkd_sdk.runtimes.linkage.clustering import LINKAGES, Edges, Line, Linkage, Merges, merges
from flipkd_sdk.runtimes.linkage.decide import (
    NEIGHBOURS,
    Decider,
    LocalDecider,
    decided,
    least_cosine,
    least_score,
    log_odds,
)
from flipkd_sdk.runtimes.linkage.proposals import Search, check_search, proposed
from flipkd_sdk.runtimes.options import check_integer, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts
    from flipkd_sdk.runtimes.matcher import Matcher


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of rows at one threshold."""

    canonical: NDArray[np.int64]
    """For each row, the row that stands for its group, from 0, shape (n,). Rows of a group have the same one."""
    score: NDArray[np.float32]
    """Match probability of each row and its canonical row, 1 for that row itself and its equals, shape (n,)."""
    threshold: float
    """Least score of a group, see `dedupe`."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return the number of rows in each row's group, shape (n,)."""
        return np.bincount(self.canonical, minlength=len(self.canonical))[self.canonical]

    @property
    def count(self) -> int:
        """Return the number of groups, those of one row included."""
        return len(np.unique(self.canonical))


@dataclass(frozen=True, slots=True)
class Grouping:
    """Merges of distinct texts, from which the groups at any threshold follow."""

    distinct: DistinctTexts
    vectors: NDArray[np.float32]
    """Unit vectors of the distinct texts, shape (distinct, d)."""
    merges: Merges
    least: float
    """Lowest threshold that it holds for."""
    edges: Edges | None = None
    """The scored pairs, if merges below the lowest threshold of groups were asked for; see `group`."""

    def labels(self, threshold: float) -> NDArray[np.int64]:
        """Return the first distinct text of each distinct text's group, shape (distinct,).

        Raises:
            ConfigError: the threshold is lower than `least`.
        """
        if threshold < self.least:
            raise ConfigError(
                f"threshold {threshold:g}: the texts were grouped from {self.least:g} on; group them anew"
            )
        return self.merges.labels(len(self.distinct.texts), float(log_odds(threshold)))

    def groups(self, decider: Decider, threshold: float) -> Groups:
        """Return the groups of rows at a threshold; raise the errors of `labels`."""
        central = _central(self.vectors, self.labels(threshold))
        others = np.flatnonzero(central != np.arange(len(central)))
        texts = self.distinct.texts
        scores = np.ones(len(central), dtype=np.float32)
        if len(others):
            scores[others] = decider.score_pairs((texts[i], texts[central[i]]) for i in others.tolist())
        index = self.distinct.index
        # Distinct texts are in the order of their first rows.
        first = np.unique(index, return_index=True)[1]
        return Groups(first[central][index], scores[index], threshold)


def dedupe(
    matcher: Matcher,
    texts: Iterable[str],
    *,
    threshold: float | None = None,
    linkage: Linkage = "complete",
    neighbours: int = NEIGHBOURS,
    search: Search = "auto",
    search_with: Matcher | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Groups:
    """Return groups of texts that mean the same.

    Each distinct text is encoded once, and equal texts are in one group. With a pair head, the cosine proposes pairs
    and the head decides on them.

    Args:
        matcher: the matcher.
        texts: the texts, row by row.
        threshold: least score of a group; None for `Matcher.threshold` with complete linkage, which asks every two
            texts of a group to match, and for `Matcher.search_threshold` with the others.
        linkage: score of two groups, which are merged from the highest score to the threshold. ``"complete"`` is the
            lowest of the pairs between them, ``"average"`` their mean over log-odds, ``"components"`` the highest. The
            last one chains: a group can have texts that do not match.
        neighbours: number of distinct texts per text that are scored, the nearest ones.
        search: ``"exact"`` finds all pairs of near vectors. ``"ann"`` finds nearly all of them, sooner if the texts are
            many, with the extra ``ann``. ``"auto"`` is ``"ann"`` from 500,000 distinct texts on if it is installed.
        search_with: another matcher that proposes the pairs, such as a static one; ``matcher`` scores them.
        progress: called with a step, the number of items done and their total; may raise to stop.

    Raises:
        InvalidTextError: an element is not a str; the message names it.
        ConfigError: an option has an invalid value.
        ModuleNotFoundError: the extra for ``search="ann"`` is not installed.
        MatcherClosedError: the matcher was closed.

    Example:
        >>> dedupe(matcher, ["forgot my PIN", "top up", "I forgot my PIN"]).canonical
        array([0, 1, 0])
    """
    check_search(search)
    distinct = distinct_texts(several(texts, "texts"))
    decider = LocalDecider(matcher, search_with)
    least = least_group_score(decider, threshold, linkage)
    vectors = decider.encode(distinct)
    grouping = group(
        decider,
        distinct,
        vectors,
        least=least,
        linkage=linkage,
        neighbours=neighbours,
        search=search,
        progress=progress,
    )
    return grouping.groups(decider, least)


def least_group_score(decider: Decider, threshold: float | None, linkage: Linkage) -> float:
    """Return the least score of a group; see `dedupe`, whose errors it raises."""
    return decider.threshold if threshold is None and linkage == "complete" else least_score(decider, threshold)


def group(
    decider: Decider,
    distinct: DistinctTexts,
    vectors: NDArray[np.float32],
    *,
    least: float,
    linkage: Linkage = "complete",
    neighbours: int = NEIGHBOURS,
    search: Search = "auto",
    down_to: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Grouping:
    """Return the merges of encoded texts down to a threshold; options as for `dedupe`.

    With ``down_to``, a lower threshold, the merges down to that one follow, and the scored pairs are kept. Groups at
    ``least`` and above are the same with and without it.
    """
    check_integer("neighbours", neighbours)
    if linkage not in LINKAGES:
        raise ConfigError(f"linkage must be one of {', '.join(LINKAGES)}; it is {shown(linkage)}")
    never = decider.never_match(distinct.texts)
    lowest = least if down_to is None else min(least, down_to)
    pairs = proposed(
        vectors,
        None,
        (never, never),
        least=least_cosine(decider, lowest),
        most=neighbours,
        search=search,
        progress=progress,
    )
    scores = decided(decider, distinct.texts, distinct.texts, pairs, progress)
    line = Line(decider.calibration.slope, decider.calibration.intercept)
    expected = line.slope * pairs.cosine.astype(np.float64) + line.intercept
    edges = Edges(pairs.a, pairs.b, log_odds(scores), expected)
    odds = float(log_odds(least))
    if down_to is None:
        return Grouping(distinct, vectors, merges(edges, vectors, line, linkage=linkage, least=odds), least)
    near = np.flatnonzero(pairs.cosine >= np.float32(least_cosine(decider, least)))
    made = merges(edges.at(near), vectors, line, linkage=linkage, least=odds)
    lower = merges(edges, vectors, line, linkage=linkage, least=float(log_odds(lowest)))
    return Grouping(distinct, vectors, made.followed_by(lower, odds), lowest, edges)


def _central(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the text of each group that is nearest to all of it, the first of equal ones, shape (distinct,)."""
    central = np.arange(len(labels))
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=len(labels))
    for part in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else ():
        if sizes[labels[part[0]]] > 2:  # Of two, the first.
            sums = vectors[part].astype(np.float64) @ vectors[part].astype(np.float64).sum(axis=0)
            central[part] = part[np.argmax(np.round(sums, 9))]
        else:
            central[part] = part[0]
    return central
