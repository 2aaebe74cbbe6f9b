"""Load test of the service: no request may fail, no score may differ from the matcher's own, no memory may leak.

    pip install 'flipkd-sdk[service]' httpx
    python examples/service/load.py --requests 10000 --callers 32

Starts the service on a free port and stops it again. With --url it tests a running one, without measuring its memory.
FLIPKD_MATCHER names the matcher directory, as for the service.

The exit code is 1 if a request failed, a score differs from the matcher's own by more than 1e-6, the service's memory
grew by more than 5% after the first fifth of the requests, or the service did not end in order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[str, str]

FOLDER = Path(__file__).parent
FAQ = FOLDER.parent / "bank_faq" / "questions.csv"
TOLERANCE = 1e-6
GROWTH = 1.05
PATIENCE = 60.0
"""Longest time in seconds for the service to start, to answer and to stop."""


@dataclass
class Load:
    """Requests to the service from several callers at once, and their results."""

    url: str
    expected: dict[Pair, float]
    """Scores of the matcher itself."""
    process: int | None = None
    """Process id of the service, to measure its memory."""
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    largest_change: float = 0.0
    total_seconds: float = 0.0
    resident_mb: list[float | None] = field(default_factory=list)
    """After the warm-up and at the end."""

    async def put(self, requests: int, callers: int) -> None:
        """Send requests, each for one of the pairs, until all are answered."""
        draw = random.Random(1)  # noqa: S311 - the same load every time
        pairs = list(self.expected)
        work = iter([draw.choice(pairs) for _ in range(requests)])
        warm_up = requests // 5

        async def caller(client: httpx.AsyncClient) -> None:
            for pair in work:
                await self.ask(client, pair)
                if len(self.seconds) >= warm_up and not self.resident_mb:
                    self.resident_mb.append(resident_mb(self.process))

        limits = httpx.Limits(max_connections=callers)
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE, limits=limits) as client:
            start = time.perf_counter()
            await asyncio.gather(*(caller(client) for _ in range(callers)))
            self.total_seconds = time.perf_counter() - start
        self.resident_mb.append(resident_mb(self.process))

    async def ask(self, client: httpx.AsyncClient, pair: Pair) -> None:
        """Send one request and compare its score."""
        start = time.perf_counter()
        try:
            answer = await client.post("/score", json={"a": pair[0], "b": pair[1]})
            answer.raise_for_status()
            change = abs(answer.json()["score"] - self.expected[pair])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        self.seconds.append(time.perf_counter() - start)
        self.largest_change = max(self.largest_change, change)
        if not change <= TOLERANCE:
            self.failures.append(f"score moved by {change:.3g}: {pair}")

    def report(self) -> dict[str, Any]:
        """Return the measurements, and ``passed``."""
        cuts = statistics.quantiles(self.seconds, n=100, method="inclusive") if len(self.seconds) > 1 else [0.0] * 99
        warm, end = self.resident_mb[0], self.resident_mb[-1]
        return {
            "requests": len(self.seconds) + len(self.failures),
            "requests_per_second": len(self.seconds) / self.total_seconds,
            "p50_seconds": cuts[49],
            "p99_seconds": cuts[98],
            "failures": len(self.failures),
            "largest_change": self.largest_change,
            "resident_mb_after_warm_up": warm,
            "resident_mb_at_end": end,
            "passed": not self.failures and (warm is None or end is None or end <= GROWTH * warm),
        }


def own_scores(matcher: Path, count: int) -> dict[Pair, float]:
    """Return pairs of the FAQ's questions, with the score that the matcher returns for each alone."""
    with FAQ.open(encoding="utf-8", newline="") as file:
        questions = [row["text"] for row in csv.DictReader(file)]
    draw = random.Random(0)  # noqa: S311
    pairs = {(draw.choice(questions), draw.choice(questions)) for _ in range(count)}
    with Matcher.load(matcher, on_truncate="ignore") as opened:
        return {pair: opened.score(*pair) for pair in sorted(pairs)}


@contextlib.contextmanager
def service(matcher: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start the service on a free port; yield its address and its process, which is killed in the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(FOLDER / "app.py"), "--port", port, *options]
    process = subprocess.Popen(command, env={**os.environ, "FLIPKD_MATCHER": str(matcher)})  # noqa: S603
    try:
        until = time.monotonic() + PATIENCE
        while not ready(url):
            if process.poll() is not None or time.monotonic() > until:
                sys.exit("the service did not start")
            time.sleep(0.1)
        yield url, process
    finally:
        process.kill()
        process.wait()


def ready(url: str) -> bool:
    """Return True if the service can answer."""
    try:
        return httpx.get(f"{url}/health/ready", timeout=PATIENCE).is_success
    except httpx.HTTPError:
        return False


def ends_in_order(process: subprocess.Popen[bytes]) -> bool:
    """Stop the service; return True if it ended by itself. Uvicorn ends with the signal that stopped it."""
    process.terminate()
    try:
        return process.wait(PATIENCE) in (0, -signal.SIGTERM)
    except subprocess.TimeoutExpired:
        return False


def resident_mb(process: int | None) -> float | None:
    """Return the resident memory of a process, or None if it cannot be read."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), None)


def main() -> bool:
    """Run the load test and print its results; return True if it passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--matcher", type=Path, default=os.environ.get("FLIPKD_MATCHER", "demo/matcher"))
    parser.add_argument("--url", help="address of a running service with the same matcher")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    options = parser.parse_args()
    expected = own_scores(options.matcher, max(1, options.requests // 10))
    if options.url:
        load, in_order = Load(options.url, expected), True
        asyncio.run(load.put(options.requests, options.callers))
    else:
        with service(options.matcher) as (url, process):
            load = Load(url, expected, process.pid)
            asyncio.run(load.put(options.requests, options.callers))
            in_order = ends_in_order(process)
    found = {"callers": options.callers, **load.report(), "ended_in_order": in_order}
    found["passed"] = found["passed"] and in_order
    for failure in load.failures[:5]:
        print(failure, file=sys.stderr)
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {value}" for name, value in found.items()))
    return bool(found["passed"])


if __name__ == "__main__":
    sys.exit(not main())
