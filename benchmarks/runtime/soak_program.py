"""A long run in its own process: large calls beside concurrent requests, with memory and scores recorded.

Each round scores new texts and asks the same probe again, in every way there is: ``soak_program.py MATCHER ROUNDS PAIRS
REQUESTS``, the last two per round. Prints a JSON object.
"""

from __future__ import annotations

import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from memory import memory_mb
from runtime.concurrency import call_concurrently
from runtime.parts import texts

from flipkd_sdk import Matcher, MicroBatcher

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEW = 1_000
_ODD = ["", "   ", "\0\x1b[31m", "\u202eright to left", "\ud800", "如何重置我的密码？", "🏦" * 40, "a long text " * 400]


def main(directory: str, rounds: int, pairs: int, requests: int) -> None:
    """Run the soak."""
    chosen = random.Random(11)
    with Matcher.load(directory, device="cpu", threads=2, on_truncate="ignore") as matcher:
        probe = [*zip(texts(24, seed=12), texts(24, seed=13), strict=True), *((text, "my PIN") for text in _ODD)]
        expected = {pair: matcher.score(*pair) for pair in probe}
        counted = {"pairs": 0, "requests": 0, "probes": 0}
        resident, largest_change, start = [memory_mb()], 0.0, time.perf_counter()
        with MicroBatcher(matcher) as batcher:
            for i in range(rounds):
                new = [*texts(_NEW, seed=1000 + i), *_ODD]
                asked = [chosen.choice(probe) if k % 2 else _pair(chosen, new) for k in range(requests)]
                large = [*probe, *(_pair(chosen, new) for _ in range(pairs))]
                scores, answers = _at_once(matcher, batcher, large, asked)
                seen = [
                    (pair, score) for pair, score in [*zip(large, scores, strict=True), *answers] if pair in expected
                ]
                seen += [(pair, matcher.score(*pair)) for pair in probe]
                largest_change = max(largest_change, *(abs(score - expected[pair]) for pair, score in seen))
                counted["pairs"] += len(scores)
                counted["requests"] += len(answers)
                counted["probes"] += len(seen)
                resident.append(memory_mb())
                print(f"\rround {i + 1} of {rounds}: {resident[-1]:.0f} MB", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    seconds = time.perf_counter() - start
    print(json.dumps({**counted, "seconds": seconds, "largest_change": largest_change, "resident_mb": resident}))


def _at_once(
    matcher: Matcher, batcher: MicroBatcher, large: Iterable[tuple[str, str]], asked: list[tuple[str, str]]
) -> tuple[list[float], list[tuple[tuple[str, str], float]]]:
    """Return the scores of the large call, and those of the concurrent requests with their pairs."""
    answers: list[tuple[tuple[str, str], float]] = []

    def ask(a: str, b: str) -> None:
        answers.append(((a, b), batcher.score(a, b)))

    with ThreadPoolExecutor(1) as executor:
        scores: Any = executor.submit(matcher.score_pairs, large)
        call_concurrently(ask, asked)
        return scores.result().tolist(), answers


def _pair(chosen: random.Random, new: list[str]) -> tuple[str, str]:
    return chosen.choice(new), chosen.choice(new)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
