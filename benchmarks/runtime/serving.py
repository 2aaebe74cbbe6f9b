"""``flipkd serve`` under load: rate and latency of 32 callers, and 50 reloads meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click
from environment import THREADS
from memory import cpu_seconds, memory_mb
from runtime.concurrency import percentile
from runtime.parts import run_program, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runtime.parts import Setting

    Pair = tuple[str, str]

CALLERS = 32
_DELAY = 0.002
_SLICES = 5
_SEVERAL = 16
"""Pairs of a request to ``/pairs``."""
_REQUESTS = 10_000
_RELOADS = 50
_ROUNDS = 5
_BAND = 0.05
_KEY = "key-of-the-benchmark"


def callers_of_service(setting: Setting) -> dict[str, Any]:
    """Measure rate and latency of 32 callers, against `score_pairs` on the same pairs.

    All ways take turns on slices, so that other load affects all. The client shares the cores with the server, so the
    processor time of both is recorded.
    """
    size = setting.size(3_000)
    pairs = list(zip(texts(size, seed=9), texts(size, seed=10), strict=True))
    ways = {"serve": Load(), "serve_16": Load(), "alone": Load(), "half": Load()}
    reference, processor = 0.0, 0.0
    with setting.load() as matcher, service(setting) as (url, process):
        scored = list(zip(pairs, matcher.score_pairs(pairs).tolist(), strict=True))
        _send(url, singles(scored[:100]), CALLERS)
        for i in range(_SLICES):
            some = scored[i::_SLICES]
            start, used = time.perf_counter(), time.process_time()
            matcher.score_pairs([pair for pair, _ in some])
            reference += time.perf_counter() - start
            processor += time.process_time() - used
            serve = ways["serve"]
            serve.add(_send(url, singles(some), CALLERS, process=process))
            ways["serve_16"].add(_send(url, _several(some), CALLERS, process=process))
            ways["alone"].add(_send(url, singles(some[:60]), 1, process=process))
            half = 0.5 * len(serve.taken) / serve.seconds
            ways["half"].add(_send(url, singles(some[:200]), CALLERS, rate=half, process=process))
    rate = size / reference
    serve, alone, half_load = ways["serve"], ways["alone"], ways["half"]
    share, unloaded = reference / serve.seconds, percentile(alone.taken, 99)
    allowed = 2 * unloaded + _DELAY
    return {
        "pairs": size,
        "callers": CALLERS,
        "max_delay_seconds": _DELAY,
        "score_pairs_pairs_per_second": rate,
        "serve_pairs_per_second": size / serve.seconds,
        "serve_to_score_pairs": share,
        "without_the_client_s_processor_time": reference / (serve.seconds - serve.client / THREADS),
        "requests_of_16_pairs_to_score_pairs": reference / ways["serve_16"].seconds,
        "score_pairs_milliseconds_of_processor_a_pair": 1000 * processor / size,
        "server_milliseconds_of_processor_a_request": {name: load.each(load.server) for name, load in ways.items()},
        "client_milliseconds_of_processor_a_request": {name: load.each(load.client) for name, load in ways.items()},
        **{
            f"{name}_p{percent}_seconds": percentile(ways[name].taken, percent) for name in ways for percent in (50, 99)
        },
        "least_mean_seconds_of_32_callers": CALLERS / rate,
        "target": "at least 0.9 of score_pairs; p99 at half of that rate at most 2 times the unloaded one plus the "
        "delay (32 callers that never pause wait 32 / rate on average for any server)",
        "met": share >= 0.9 and percentile(half_load.taken, 99) <= allowed,
        "met_rate": share >= 0.9,
        "met_p99_at_half_rate": percentile(half_load.taken, 99) <= allowed,
        "met_p99_of_32_callers": percentile(serve.taken, 99) <= allowed,
    }


def soak_of_service(setting: Setting) -> dict[str, Any]:
    """Send 10,000 requests of 32 callers while the matcher is replaced 50 times; each score is compared."""
    distinct = list(zip(texts(500, seed=11), texts(500, seed=12), strict=True))
    count, replaced = setting.size(_REQUESTS // _ROUNDS), setting.size(_RELOADS // _ROUNDS)
    resident = []
    with setting.load() as matcher, service(setting) as (url, process):
        scored = list(zip(distinct, matcher.score_pairs(distinct).tolist(), strict=True))
        for _ in range(_ROUNDS):
            with ThreadPoolExecutor(1) as executor:
                sent = executor.submit(_send, url, singles([scored[i % len(scored)] for i in range(count)]), CALLERS)
                for _ in range(replaced):
                    _reload(url)
                sent.result()
            resident.append(_settled_mb(process.pid))
        process.terminate()
        ended = process.wait(60)
    middle = statistics.median(resident[1:])
    spread = max(abs(value / middle - 1) for value in resident[1:])
    return {
        "requests": _ROUNDS * count,
        "reloads": _ROUNDS * replaced,
        "resident_mb": [round(value, 1) for value in resident],
        "largest_departure": spread,
        "exit_code": ended,
        "target": "no failure, no score moved by more than 1e-6 (either ends the measurement); resident memory within "
        "5% of its median after the first round",
        "met": spread <= _BAND,
    }


def _settled_mb(process: int) -> float:
    """Return the resident memory once it stays the same: the last replaced matcher is released a moment later."""
    resident, same = memory_mb(process=process), 0
    for _ in range(60):
        time.sleep(1)
        before, resident = resident, memory_mb(process=process)
        same = same + 1 if abs(resident - before) < 1 else 0
        if same == 5:
            break
    return resident


class Load:
    """Times of one way to ask, over all slices."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self.seconds = self.client = self.server = 0.0

    def add(self, found: dict[str, Any]) -> None:
        """Add a slice."""
        self.taken += found["taken"]
        self.seconds += found["seconds"]
        self.client += found["cpu_seconds"]
        self.server += found["server_seconds"]

    def each(self, seconds: float) -> float:
        """Return milliseconds a request."""
        return 1000 * seconds / len(self.taken)


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
        address = re.search(r"http://(\S+)", process.stderr.readline()) if process.stderr else None
        if address is None:
            raise click.ClickException("the service did not start")
        yield address[1], process
    finally:
        process.kill()
        process.wait()


def singles(scored: Sequence[tuple[Pair, float]]) -> list[dict[str, Any]]:
    """Return a request to ``/score`` for each pair."""
    return [{"path": "/score", "body": {"a": a, "b": b}, "scores": [score]} for (a, b), score in scored]


def _several(scored: Sequence[tuple[Pair, float]]) -> list[dict[str, Any]]:
    parts = [scored[i : i + _SEVERAL] for i in range(0, len(scored), _SEVERAL)]
    return [
        {
            "path": "/pairs",
            "body": {"pairs": [{"a": a, "b": b} for (a, b), _ in part]},
            "scores": [score for _, score in part],
        }
        for part in parts
    ]


def _send(
    address: str,
    requests: list[dict[str, Any]],
    callers: int,
    *,
    rate: float = 0,
    process: subprocess.Popen[str] | None = None,
) -> dict[str, Any]:
    """Send requests from a process of its own, and return their times."""
    host, _, port = address.rpartition(":")
    before = cpu_seconds(process.pid) if process else 0.0
    found = run_program("load_client", host, port, _KEY, callers, rate, lines=requests)
    return {**found, "server_seconds": cpu_seconds(process.pid) - before if process else 0.0}


def _reload(address: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=120)
    with contextlib.closing(connection):
        connection.request("POST", "/reload", headers={"Authorization": f"Bearer {_KEY}"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise click.ClickException(f"a reload failed: {answer.read()!r}")
