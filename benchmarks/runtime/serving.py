"""``flipkd serve`` under load: rate and latency of 32 callers, and 50 reloads meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import click
from environment import THREADS
from memory import memory_mb
from runtime.concurrency import percentile
from runtime.parts import texts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    import httpx
    from runtime.parts import Setting

    Pair = tuple[str, str]

CALLERS = 32
_DELAY = 0.002
_SLICES = 5
_REQUESTS = 10_000
_RELOADS = 50
_KEY = "key of the benchmark"
_TOLERANCE = 1e-6


def callers_of_service(setting: Setting) -> dict[str, Any]:
    """Measure rate and latency of 32 callers of ``/score``, against `score_pairs` on the same pairs.

    Both take turns on slices, so that other load affects both.
    """
    size = setting.size(3_000)
    pairs = list(zip(texts(size, seed=9), texts(size, seed=10), strict=True))
    seconds, waits, alone = {"score_pairs": 0.0, "serve": 0.0}, [], []
    with setting.load() as matcher, service(setting) as (url, _):
        expected = matcher.score_pairs(pairs).tolist()
        asyncio.run(ask(url, pairs[:100], expected, CALLERS))
        for i in range(_SLICES):
            some, wanted = pairs[i::_SLICES], expected[i::_SLICES]
            start = time.perf_counter()
            matcher.score_pairs(some)
            seconds["score_pairs"] += time.perf_counter() - start
            start = time.perf_counter()
            waits += asyncio.run(ask(url, some, wanted, CALLERS))
            seconds["serve"] += time.perf_counter() - start
            alone += asyncio.run(ask(url, some[:60], wanted[:60], 1))
    share = seconds["score_pairs"] / seconds["serve"]
    p99, unloaded = percentile(waits, 99), percentile(alone, 99)
    return {
        "pairs": size,
        "callers": CALLERS,
        "max_delay_seconds": _DELAY,
        **{f"{name}_pairs_per_second": size / total for name, total in seconds.items()},
        "serve_to_score_pairs": share,
        "p50_seconds": percentile(waits, 50),
        "p99_seconds": p99,
        "unloaded_p99_seconds": unloaded,
        "target": "at least 0.9 of score_pairs; p99 at most 2 times the unloaded one plus the delay",
        "met": share >= 0.9 and p99 <= 2 * unloaded + _DELAY,
    }


def reloads(setting: Setting) -> dict[str, Any]:
    """Send 10,000 requests of 32 callers while the matcher is replaced 50 times; each score is compared."""
    requests = setting.size(_REQUESTS)
    distinct = list(zip(texts(500, seed=11), texts(500, seed=12), strict=True))
    with setting.load() as matcher, service(setting) as (url, process):
        scores = dict(zip(distinct, matcher.score_pairs(distinct).tolist(), strict=True))
        pairs = [distinct[i % len(distinct)] for i in range(requests)]
        warm = requests // 5
        asyncio.run(_with_reloads(url, pairs[:warm], scores, setting.size(_RELOADS // 5)))
        before = _settled_mb(process)
        asyncio.run(_with_reloads(url, pairs[warm:], scores, setting.size(_RELOADS - _RELOADS // 5)))
        after = _settled_mb(process)
        process.terminate()
        ended = process.wait(60)
    growth = after / before
    return {
        "requests": requests,
        "reloads": setting.size(_RELOADS // 5) + setting.size(_RELOADS - _RELOADS // 5),
        "resident_mb_after_warm_up": before,
        "resident_mb_at_end": after,
        "growth": growth,
        "exit_code": ended,
        "target": "no failure, no score moved by more than 1e-6 (either ends the measurement), memory within 5%",
        "met": growth <= 1.05,
    }


def _settled_mb(process: subprocess.Popen[str]) -> float:
    """Return the resident memory once the last replaced matcher is released."""
    time.sleep(3)
    return memory_mb(process=process.pid)


@contextlib.contextmanager
def service(setting: Setting) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the service on a free port; yield its address and its process, which is killed in the end."""
    options = ["--port", "0", "--device", "cpu", "--threads", str(THREADS), "--max-delay", str(_DELAY)]
    process = subprocess.Popen(
        [sys.executable, "-m", "flipkd_sdk", "serve", str(setting.matcher), *options],
        env={**os.environ, "FLIPKD_SERVE_API_KEY": _KEY},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = re.search(r"http://\S+", process.stderr.readline()) if process.stderr else None
        if address is None:
            raise click.ClickException("the service did not start")
        yield address[0], process
    finally:
        process.kill()
        process.wait()


async def ask(url: str, pairs: Sequence[Pair], expected: Sequence[float], callers: int) -> list[float]:
    """Score pairs over HTTP from several callers, compare them, and return the seconds of each request."""
    work = iter(zip(pairs, expected, strict=True))
    taken: list[float] = []

    async def caller(client: httpx.AsyncClient) -> None:
        for pair, score in work:
            start = time.perf_counter()
            answer = await client.post("/score", json={"a": pair[0], "b": pair[1]})
            taken.append(time.perf_counter() - start)
            if abs(answer.raise_for_status().json()["score"] - score) > _TOLERANCE:
                raise click.ClickException(f"the score of {pair} moved to {answer.json()['score']}")

    async with _client(url, callers) as client, asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller(client))
    return taken


async def _with_reloads(url: str, pairs: Sequence[Pair], scores: dict[Pair, float], count: int) -> None:
    async def reload() -> None:
        async with _client(url, 1) as client:
            for _ in range(count):
                (await client.post("/reload")).raise_for_status()

    async with asyncio.TaskGroup() as group:
        group.create_task(ask(url, pairs, [scores[pair] for pair in pairs], CALLERS))
        group.create_task(reload())


@contextlib.asynccontextmanager
async def _client(url: str, callers: int) -> AsyncIterator[httpx.AsyncClient]:
    import httpx

    limits = httpx.Limits(max_connections=callers)
    headers = {"authorization": f"Bearer {_KEY}"}
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, headers=headers) as client:
        yield client
