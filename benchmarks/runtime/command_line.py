"""Cost of the command line over the matcher that it runs: start-up, streaming, repeated texts, Ray."""

from __future__ import annotations

import csv
import importlib.util
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from environment import THREADS
from memory import memory_mb
from runtime.parts import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runtime.parts import Setting

FLIPKD = Path(sys.executable).with_name("flipkd")
_SLICES = 4


@dataclass(frozen=True)
class Run:
    """Seconds and memory of a finished process."""

    seconds: float
    peak_mb: float
    resident_mb: list[float]
    """Resident memory, twice a second."""


def write_pairs(path: Path, pairs: Iterable[tuple[str, str]]) -> Path:
    """Write numbered pairs as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text_a", "text_b"])
        writer.writerows((i, a, b) for i, (a, b) in enumerate(pairs))
    return path


def run(command: Sequence[str | Path]) -> Run:
    """Run a command and sample its memory."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    resident: list[float] = []
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        seconds = time.perf_counter() - start
        if seconds > 0.5 * (len(resident) + 1):
            resident.append(memory_mb(process=process.pid))
        time.sleep(0.001 if seconds < 5 else 0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return Run(time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6, resident)


def score(setting: Setting, table: Path, out: str, *options: str) -> Run:
    """Run ``flipkd score``."""
    target = setting.folder / out
    return run([FLIPKD, "score", setting.matcher, table, "--out", target, "--overwrite", "--device", "cpu", *options])


def bench_help(_setting: Setting) -> dict[str, Any]:
    """Measure ``flipkd --help``."""
    seconds = statistics.median(run([FLIPKD, "--help"]).seconds for _ in range(15))
    return {"seconds": seconds, "target": "at most 0.25", "met": seconds <= 0.25}


def bench_cold(setting: Setting) -> dict[str, Any]:
    """Measure ``flipkd score`` on ten rows, against a process that loads the matcher and scores one pair."""
    table = write_pairs(setting.folder / "ten.csv", zip(texts(10, seed=1), texts(10, seed=2), strict=True))
    script = (
        "import sys; from flipkd_sdk import Matcher; "
        f"Matcher.load(sys.argv[1], device='cpu', threads={THREADS}).score('a text', 'another text')"
    )
    bare, command = [], []
    for _ in range(11):  # In turn, so that other load affects both.
        bare.append(run([sys.executable, "-P", "-c", script, setting.matcher]).seconds)
        command.append(score(setting, table, "ten_scored.csv", "--threads", str(THREADS)).seconds)
    ratio = statistics.median(command) / statistics.median(bare)
    return {
        "matcher_seconds": statistics.median(bare),
        "score_seconds": statistics.median(command),
        "ratio": ratio,
        "target": "at most 1.3",
        "met": ratio <= 1.3,
    }


def bench_repeated(setting: Setting) -> dict[str, Any]:
    """Measure a million rows with 20,000 distinct texts."""
    distinct = texts(setting.size(20_000), seed=3)
    chosen = random.Random(4)
    rows = setting.size(1_000_000)
    table = write_pairs(
        setting.folder / "repeated.csv", ((chosen.choice(distinct), chosen.choice(distinct)) for _ in range(rows))
    )
    with setting.load() as matcher:
        start = time.perf_counter()
        matcher.encode(distinct)
        encoding = time.perf_counter() - start
        sample = [(chosen.choice(distinct), chosen.choice(distinct)) for _ in range(setting.size(1000))]
        start = time.perf_counter()
        for a, b in sample:
            vectors = matcher.encode([a]), matcher.encode([b])
            float(vectors[0][0] @ vectors[1][0])
        loop = len(sample) / (time.perf_counter() - start)
    done = score(setting, table, "repeated_scored.csv", "--threads", str(THREADS))
    speedup = rows / done.seconds / loop
    early, late = (
        statistics.median(part or [done.peak_mb])
        for part in (
            done.resident_mb[len(done.resident_mb) // 4 : len(done.resident_mb) // 2],
            done.resident_mb[-len(done.resident_mb) // 4 :],
        )
    )
    return {
        "rows": rows,
        "distinct_texts": len(distinct),
        "seconds": done.seconds,
        "seconds_to_encode_distinct_texts": encoding,
        "seconds_beyond": done.seconds - encoding,
        "peak_mb": done.peak_mb,
        "resident_mb_in_second_quarter": early,
        "resident_mb_in_last_quarter": late,
        "rows_per_second_of_plain_loop": loop,
        "times_plain_loop": speedup,
        "target": "peak below 700 MB and flat; at most 60 s beyond; at least 20 times the plain loop",
        "met": done.peak_mb < 700 and late < 1.1 * early and done.seconds - encoding <= 60 and speedup >= 20,
    }


def bench_pairs(setting: Setting) -> dict[str, Any]:
    """Measure 100,000 distinct pairs in memory, with the local engine on two threads, and with two Ray workers.

    The ways take turns on slices, so that other load affects all of them. The start-up is measured with ten rows and
    subtracted.
    """
    size = setting.size(100_000)
    pairs = list(zip(texts(size, seed=5), texts(size, seed=6), strict=True))
    few = write_pairs(setting.folder / "few.csv", pairs[:10])
    engines = {"local": ["--threads", str(THREADS)]}
    if importlib.util.find_spec("ray") is not None:
        engines["ray"] = ["--engine", "ray", "--workers", str(THREADS), "--threads", "1"]
    seconds = dict.fromkeys(["memory", *engines], 0.0)
    outputs: dict[str, list[bytes]] = {engine: [] for engine in engines}
    for i in range(_SLICES):
        some = pairs[i::_SLICES]
        table = write_pairs(setting.folder / f"slice{i}.csv", some)
        with setting.load() as matcher:
            matcher.score_pairs(some[:100])
            start = time.perf_counter()
            matcher.score_pairs(some)
            seconds["memory"] += time.perf_counter() - start
        for engine, options in engines.items():
            starting = score(setting, few, "few_scored.csv", *options).seconds
            seconds[engine] += score(setting, table, "scored.csv", *options).seconds - starting
            outputs[engine].append((setting.folder / "scored.csv").read_bytes())
    rates = {f"{name}_rows_per_second": size / total for name, total in seconds.items()}
    ratio = seconds["memory"] / seconds["local"]
    result = {
        "pairs": size,
        **rates,
        "local_to_memory": ratio,
        "target": "local at least 0.95 of memory; Ray at least 0.85 of local, with identical rows and scores",
        "met": ratio >= 0.95,
    }
    if "ray" in engines:
        of_local, identical = seconds["local"] / seconds["ray"], outputs["ray"] == outputs["local"]
        met = result["met"] and of_local >= 0.85 and identical
        result |= {"ray_to_local": of_local, "ray_identical_to_local": identical, "met": met}
    return result


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "help": bench_help,
    "cold": bench_cold,
    "repeated": bench_repeated,
    "pairs": bench_pairs,
}
