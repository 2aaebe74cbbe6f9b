"""``flipkd dedupe --report``: a page of groups and their weakest links, with a slider that splits and joins them."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flipkd_sdk import __version__
from flipkd_sdk.pages.html import Html, element, join
from flipkd_sdk.pages.page import Section, page
from flipkd_sdk.pages.parts import facts, table, text_paragraph, tiles, verdict
from flipkd_sdk.runtimes.linkage.decide import log_odds
from flipkd_sdk.runtimes.linkage.dendrogram import Dendrogram, dendrogram

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.linkage.dedupe import Grouping, Groups

_LOWER = 1.0
"""Log-odds below the lowest threshold down to which the page shows what would join."""
_LARGEST, _DOUBTFUL = 30, 70
"""Most groups shown for either reason."""
_TEXTS, _NEXT_TEXTS = 20, 6
"""Most texts shown of a group, and of the one that it would join."""
_ROWS = 5
"""Most row numbers shown of a text."""
_POSITIONS = 400
_HIGHEST = 0.9999
"""Last position of the slider before 1."""


class _Runs(NamedTuple):
    """Groups at the first threshold, as runs of the dendrogram's order; each field has shape (groups,)."""

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    rows: NDArray[np.int64]
    weakest: NDArray[np.float64]
    """Log-odds above which a group splits; infinite for one text."""
    before: NDArray[np.float64]
    """Log-odds up to which it is joined with the run before; -inf if never."""
    after: NDArray[np.float64]

    @property
    def joins(self) -> NDArray[np.float64]:
        """Return the log-odds up to which each group is joined with another one."""
        return np.maximum(self.before, self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """Content of the page."""

    source: str
    """Name of the table."""
    thresholds: Sequence[float]
    grouping: Grouping
    groups: Groups
    """Groups at the first threshold."""
    facts: Mapping[str, str]
    """Options and numbers to show, by name."""


def lowest_shown(threshold: float) -> float:
    """Return the threshold down to which the page shows what would join, from the lowest one of the groups."""
    return float(1 / (1 + np.exp(_LOWER - log_odds(threshold))))


def groups_page(content: PageContent) -> str:
    """Return the page."""
    grouping, threshold = content.grouping, content.thresholds[0]
    rows = np.bincount(grouping.distinct.index, minlength=len(grouping.distinct.texts))
    tree = dendrogram(grouping.merges, rows)
    odds = float(log_odds(threshold))
    runs = _runs(tree, rows, odds)
    positions = _positions(content.thresholds, grouping.least)
    cards = _Cards(content, tree, runs, log_odds(positions))
    # Stable, so that of equal groups the first one comes first.
    by_size = np.argsort(-runs.rows, kind="stable")
    several = by_size[runs.rows[by_size] > 1]
    largest = several[:_LARGEST]
    change = np.minimum(runs.weakest - odds, odds - runs.joins)
    change[largest] = np.inf
    doubtful = np.argsort(change, kind="stable")[: np.isfinite(change).sum()]
    counts = tree.counts(odds)
    lead = join(
        [
            verdict(
                f"{int(rows.sum()):,} rows are {counts.groups:,} groups at the threshold {threshold:.4f}.",
                ["The slider shows which texts another threshold would split or join."],
            ),
            tiles(
                [
                    (f"{counts.several:,}", "groups of several rows", ""),
                    (f"{counts.rows:,}", "rows in them", ""),
                    (f"{counts.largest:,}", "rows in the largest group", ""),
                ]
            ),
            facts([("Date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"), *content.facts.items()]),
        ]
    )
    sections = [
        Section("threshold", "Threshold", _slider(content.thresholds, positions, tree)),
        Section("largest", "Largest groups", cards.listed(largest, len(several), "groups of several rows")),
        Section("doubtful", "Most doubtful groups", cards.listed(doubtful[:_DOUBTFUL], len(doubtful), "other groups")),
    ]
    footer = f"Written by flipkd dedupe, flipkd_sdk {__version__}."
    return page(f"Groups of {content.source}", lead, sections, footer=footer, scripts=["groups.js"])


def _runs(tree: Dendrogram, rows: NDArray[np.int64], odds: float) -> _Runs:
    starts = np.flatnonzero(tree.joined < odds)
    stops = np.append(starts[1:], len(tree.order))[: len(starts)]
    total = np.concatenate([[0], np.cumsum(rows[tree.order])])
    inside = np.where(tree.joined < odds, np.inf, tree.joined)
    weakest = np.minimum.reduceat(inside, starts) if len(starts) else inside
    ends = np.append(tree.joined, -np.inf)
    return _Runs(starts, stops, total[stops] - total[starts], weakest, ends[starts], ends[stops])


def _positions(thresholds: Sequence[float], lowest: float) -> NDArray[np.float64]:
    """Return the thresholds of the slider, evenly spaced in log-odds, for those near 1 differ most."""
    low, high = log_odds(np.array([lowest, max(lowest, _HIGHEST)])).tolist()
    even = 1 / (1 + np.exp(-np.linspace(low, high, _POSITIONS)))
    return np.unique(np.array([*np.round(even, 4), *thresholds, 1.0]).clip(lowest, 1.0))


def _slider(thresholds: Sequence[float], positions: NDArray[np.float64], tree: Dendrogram) -> Html:
    counts = [tree.counts(float(odds)) for odds in log_odds(positions)]
    start = int(np.searchsorted(positions, thresholds[0]))
    data = {
        "thresholds": positions.tolist(),
        "start": start,
        **{name: [getattr(count, name) for count in counts] for name in ("groups", "several", "largest")},
    }
    first = tree.counts(float(log_odds(thresholds[0])))
    buttons = [
        *(
            element("button", f"Threshold {value:g}", type="button", data_go=int(np.searchsorted(positions, value)))
            for value in thresholds
        ),
        element("button", "Lower to the next join", type="button", data_step="join"),
        element("button", "Raise to the next split", type="button", data_step="split"),
    ]
    label = element("label", "Threshold ", element("output", f"{thresholds[0]:.4f}", data_part="value"), for_="slider")
    last = len(positions) - 1
    slider = element("input", type="range", id="slider", min=0, max=last, step=1, value=start, data_part="slider")
    now = (
        f"{first.groups:,} groups, {first.several:,} of several rows, the largest of {first.largest:,}. "
        "No group shown below is split or joined."
    )
    rows = [[f"{value:g}", *(f"{count:,}" for count in tree.counts(float(log_odds(value))))] for value in thresholds]
    return element(
        "div",
        element("div", label, slider, element("p", *buttons), class_="controls", data_part="controls", hidden=True),
        element("p", element("output", now, data_part="counts")),
        table(
            ("threshold", "groups", "of several rows", "rows in them", "largest"), rows, caption="Groups by threshold"
        ),
        class_="grouping",
        data_counts=json.dumps(data, separators=(",", ":")),
    )


class _Cards:
    """Groups as list items."""

    def __init__(self, content: PageContent, tree: Dendrogram, runs: _Runs, positions: NDArray[np.float64]) -> None:
        self._content = content
        self._texts = content.grouping.distinct.texts
        self._tree = tree
        self._runs = runs
        self._positions = positions
        index = content.grouping.distinct.index
        self._by_text = np.argsort(index, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(index))])

    def listed(self, chosen: NDArray[np.int64], of: int, kind: str) -> Html:
        """Return some groups, with the number of those left out."""
        if not len(chosen):
            return element("p", "None.")
        weakest = self._weakest_pairs(chosen)
        cards = [self._card(i, weakest.get(i)) for i in chosen.tolist()]
        left = element("p", f"{of - len(chosen):,} {kind} are not shown.") if of > len(chosen) else ""
        return join([left, element("ol", *cards, class_="groups")])

    def _card(self, run: int, weakest: tuple[int, int, float] | None) -> Html:
        rows, count = int(self._runs.rows[run]), int(self._runs.stop[run] - self._runs.start[run])
        joins = float(self._runs.joins[run])
        notes = []
        if count > 1:
            notes.append(f"splits above {_score(self._runs.weakest[run])}")
        if joins > -np.inf:
            notes.append(f"joins another group at {_score(joins)} or lower")
        parts = [
            element("h3", f"{rows:,} row{'s' * (rows > 1)}, {count:,} distinct text{'s' * (count > 1)}"),
            element("p", "; ".join(notes), class_="note") if notes else "",
        ]
        if weakest is not None and count > 2:
            pair = element("div", *(text_paragraph(self._texts[i]) for i in weakest[:2]), class_="pair")
            parts.append(element("div", element("p", f"Weakest pair, {_score(weakest[2])}:", class_="note"), pair))
        parts.append(self._members(run, _TEXTS))
        if joins > -np.inf:
            other = run - 1 if self._runs.before[run] >= self._runs.after[run] else run + 1
            parts.append(self._members(other, _NEXT_TEXTS, joins=joins))
        return element("li", *parts)

    def _members(self, run: int, most: int, joins: float | None = None) -> Html:
        places = self._shown(run, most)
        joined = [float(self._tree.joined[i + 1 : j + 1].min()) for i, j in itertools.pairwise(places)]
        items = [self._item(place, value) for place, value in zip(places, [joins, *joined], strict=True)]
        left = int(self._runs.stop[run] - self._runs.start[run]) - len(places)
        if left:
            items.append(element("li", element("em", f"{left:,} more distinct texts of this group are not shown")))
        return element("ol", *items, class_="members", data_next=joins is not None)

    def _item(self, place: int, joined: float | None) -> Html:
        text = int(self._tree.order[place])
        rows = self._by_text[self._starts[text] : self._starts[text + 1]]
        more = f" and {len(rows) - _ROWS:,} more" if len(rows) > _ROWS else ""
        note = f"row{'s' * (len(rows) > 1)} {', '.join(f'{row + 1:,}' for row in rows[:_ROWS].tolist())}{more}"
        if self._content.groups.canonical[rows[0]] == rows[0]:
            note += "; canonical"
        body = text_paragraph(self._texts[text])
        if joined is None:
            return element("li", body, element("small", note))
        apart = joined < float(log_odds(self._content.thresholds[0]))
        return element(
            "li",
            element("strong", "Another group", hidden=not apart),
            body,
            element("small", f"{note}; with the text above up to {_score(joined)}"),
            data_joined=int(np.searchsorted(self._positions, joined, side="right")) - 1,
            class_="apart" if apart else None,
        )

    def _shown(self, run: int, most: int) -> list[int]:
        """Return the places of a group to show: the canonical text, and those beside the weakest links."""
        start, stop = int(self._runs.start[run]), int(self._runs.stop[run])
        if stop - start <= most:
            return list(range(start, stop))
        own = self._tree.order[start:stop]
        canonical = self._content.groups.canonical[self._by_text[self._starts[own[0]]]]
        shown = {start + int(np.argmax(own == self._content.grouping.distinct.index[canonical]))}
        for place in (start + 1 + np.argsort(self._tree.joined[start + 1 : stop], kind="stable")).tolist():
            if len(shown) > most - 2:
                break
            shown |= {place - 1, place}
        return sorted(shown)

    def _weakest_pairs(self, chosen: NDArray[np.int64]) -> dict[int, tuple[int, int, float]]:
        """Return the two texts of each group that score lowest of those compared, and their log-odds."""
        edges = self._content.grouping.edges
        if edges is None:
            return {}
        group = np.full(len(self._tree.order), -1)
        for run in chosen.tolist():
            group[self._tree.order[self._runs.start[run] : self._runs.stop[run]]] = run
        own = np.flatnonzero((group[edges.a] >= 0) & (group[edges.a] == group[edges.b]))
        own = own[np.argsort(-edges.value[own], kind="stable")]
        return {
            int(group[edges.a[edge]]): (int(edges.a[edge]), int(edges.b[edge]), float(edges.value[edge]))
            for edge in own.tolist()
        }


def _score(odds: float | np.float64) -> str:
    return f"{1 / (1 + np.exp(-odds)):.4f}"
