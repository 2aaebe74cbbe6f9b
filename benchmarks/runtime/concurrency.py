"""Sixteen concurrent callers, with and without the micro-batcher."""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

from runtime.parts import texts

from flipkd_sdk import MicroBatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.parts import Setting

CALLERS = 16
_DELAY = 0.002
_SLICES = 6


def callers(setting: Setting) -> dict[str, Any]:
    """Measure rate and latency of 16 concurrent callers, against `score_pairs` on the same pairs.

    The ways take turns on slices, so that other load affects all of them.
    """
    size = setting.size(3_000)
    pairs = list(zip(texts(size, seed=5), texts(size, seed=6), strict=True))
    seconds = {"score_pairs": 0.0, "direct": 0.0, "batched": 0.0}
    waits: dict[str, list[float]] = {"direct": [], "batched": []}
    with setting.load() as matcher, MicroBatcher(matcher, max_delay=_DELAY) as batcher:
        ways = {"direct": matcher.score, "batched": batcher.score}
        matcher.score_pairs(pairs[:100])
        for way in ways.values():
            call_concurrently(way, pairs[:100])
        for i in range(_SLICES):
            some = pairs[i::_SLICES]
            start = time.perf_counter()
            matcher.score_pairs(some)
            seconds["score_pairs"] += time.perf_counter() - start
            for name, way in ways.items():
                start = time.perf_counter()
                waits[name] += call_concurrently(way, some)
                seconds[name] += time.perf_counter() - start
    rates = {f"{name}_pairs_per_second": size / total for name, total in seconds.items()}
    p50, p99 = ({name: percentile(waits[name], percent) for name in waits} for percent in (50, 99))
    of_pairs, of_direct = seconds["score_pairs"] / seconds["batched"], seconds["direct"] / seconds["batched"]
    return {
        "pairs": size,
        "callers": CALLERS,
        "max_delay_seconds": _DELAY,
        **rates,
        **{f"{name}_p50_seconds": value for name, value in p50.items()},
        **{f"{name}_p99_seconds": value for name, value in p99.items()},
        "batched_to_score_pairs": of_pairs,
        "batched_to_direct": of_direct,
        "target": "batched at least 0.9 of score_pairs and 1.0 of direct; its p99 at most direct's plus the delay",
        "met": of_pairs >= 0.9 and of_direct >= 1 and p99["batched"] <= p99["direct"] + _DELAY,
    }


def call_concurrently(score: Callable[[str, str], float], pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Score pairs from 16 threads and return the seconds of each call."""
    taken: list[float] = []
    failures: list[Exception] = []
    remaining = iter(pairs)
    taking = threading.Lock()

    def caller() -> None:
        while True:
            with taking:
                pair = next(remaining, None)
            if pair is None:
                return
            start = time.perf_counter()
            try:
                score(*pair)
            except Exception as error:
                failures.append(error)
                return
            taken.append(time.perf_counter() - start)

    threads = [threading.Thread(target=caller) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return taken


def percentile(values: Sequence[float], percent: int) -> float:
    """Return an interpolated percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
