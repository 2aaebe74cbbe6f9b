"""Puts load on the service and checks that a pair's score never changes, whatever else is asked meanwhile.

    pip install httpx
    python examples/service/load.py --requests 10000 --callers 64

Ends with 1 if a request failed or a score moved by more than 1e-6.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import random
import statistics
import sys
import time
from pathlib import Path

import httpx

FAQ = Path(__file__).parent.parent / "bank_faq" / "questions.csv"
TOLERANCE = 1e-6


async def load(url: str, requests: int, callers: int) -> bool:
    """Send requests from a number of callers at once; whether all went well."""
    with FAQ.open(encoding="utf-8", newline="") as file:
        questions = [row["text"] for row in csv.DictReader(file)]
    draw = random.Random(0)  # noqa: S311 - the same load every time
    pairs = [tuple(draw.sample(questions, 2)) for _ in range(max(1, requests // 10))]
    work = iter([draw.choice(pairs) for _ in range(requests)])
    known: dict[tuple[str, ...], float] = {}
    seconds: list[float] = []
    failures: list[str] = []

    async def caller(client: httpx.AsyncClient) -> None:
        for pair in work:
            start = time.perf_counter()
            try:
                answer = await client.post("/score", json={"a": pair[0], "b": pair[1]})
                answer.raise_for_status()
            except httpx.HTTPError as error:
                failures.append(f"{type(error).__name__}: {error}")
                continue
            seconds.append(time.perf_counter() - start)
            score = answer.json()["score"]
            if abs(known.setdefault(pair, score) - score) > TOLERANCE:
                failures.append(f"score moved from {known[pair]} to {score}: {pair}")

    limits = httpx.Limits(max_connections=callers)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        start = time.perf_counter()
        await asyncio.gather(*(caller(client) for _ in range(callers)))
        total = time.perf_counter() - start
    print(f"{requests} requests from {callers} callers: {len(seconds) / total:.0f}/s, {len(failures)} failures")
    if len(seconds) > 1:
        cuts = statistics.quantiles(seconds, n=100)
        print(f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms")
    for failure in failures[:5]:
        print(failure, file=sys.stderr)
    return not failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=64)
    options = parser.parse_args()
    sys.exit(not asyncio.run(load(options.url, options.requests, options.callers)))
