"""The pair head's cost: the same pairs with and without it, in turn."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from environment import THREADS
from runtime.parts import texts

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.parts import Setting

_ROUNDS = 15
_SINGLE = 40
"""Pairs that are scored one by one in a round."""


def head_cost(setting: Setting) -> dict[str, Any]:
    """Measure `score_pairs` on distinct texts, and single pairs; medians of rounds that take turns."""
    size = setting.size(500)
    pairs = list(zip(texts(size, seed=11), texts(size, seed=12), strict=True))
    with setting.load() as one, Matcher.load(setting.matcher, device="cpu", threads=THREADS, head=False) as other:
        if not one.has_head:
            return {"targets": {}, "note": "this matcher has no pair head"}
        works: dict[str, Callable[[Matcher], object]] = {
            "batch": lambda matcher: matcher.score_pairs(pairs),
            "single": lambda matcher: [matcher.score(a, b) for a, b in pairs[:_SINGLE]],
        }
        found: dict[str, Any] = {"pairs": size, "rounds": _ROUNDS}
        for name, work in works.items():
            ratios, seconds = _ratios(work, one, other)
            found[f"{name}_ratio"] = statistics.median(ratios)
            found[f"{name}_ratio_quartiles"] = statistics.quantiles(ratios, n=4)[::2]
            per_pair = size if name == "batch" else _SINGLE
            found[f"{name}_us_a_pair"] = statistics.median(seconds) / per_pair * 1e6
    found["targets"] = {"batch_ratio": "<= 1.10", "single_ratio": "<= 1.15"}
    return found


def _ratios(work: Callable[[Matcher], object], one: Matcher, other: Matcher) -> tuple[list[float], list[float]]:
    """Return the ratio of each round, and the seconds with the head."""
    for matcher in (one, other):
        work(matcher)
    ratios, seconds = [], []
    for round_ in range(_ROUNDS):
        took = {}
        # The first of a round changes, so that a drift of the clock favours neither.
        for matcher in (one, other) if round_ % 2 else (other, one):
            started = time.perf_counter()
            work(matcher)
            took[matcher] = time.perf_counter() - started
        ratios.append(took[one] / took[other])
        seconds.append(took[one])
    return ratios, seconds
