"""Fuzzing of every reader, in worker processes with limits; `make fuzz MINUTES=20` runs it.

A finding is an error that is none of the package's, a crash, a case that takes longer than 5 seconds or more than 500
MB, a file opened outside the case's directory, a connection, or a broken promise such as an output after an error. Each
is run again alone in a fresh worker. Only if it happens again it counts, and its file is kept in tests/hostile/cases,
which tests/hostile/test_fuzz.py replays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "hostile" / "cases"
RESULT = ROOT / "benchmarks" / "results" / "fuzz.json"
TIME_LIMIT = 5.0
RESIDENT_LIMIT = 500_000_000
START_LIMIT = 120.0
MOST_FAILURES_OUTSIDE = 10
BATCH = 50
BATCHES_PER_WORKER = 60
"""A worker is replaced after these, so that memory of earlier cases is not counted with a later one."""
READERS = (
    "manifest", "tokenizer", "model", "reference-vectors", "csv", "jsonl", "parquet", "csv-gz", "jsonl-gz", "resume",
    "candidates-manifest", "candidates-texts", "candidates-vectors", "language-pack", "train-config",
)  # fmt: skip
KINDS = ("traceback", "crash", "hang", "memory", "outside", "wrong result")


class Worker:
    """A worker process and the directory that it works in."""

    def __init__(self, base: Path, program: Sequence[str] = ("-m", "fuzz.worker")) -> None:
        self.base = base
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        environment |= {"PYTHONPATH": str(ROOT / "tests"), "FLIPKD_CACHE": str(base / "case")}
        environment["HYPOTHESIS_STORAGE_DIRECTORY"] = str(base.with_suffix(".hypothesis"))
        self.log = (base.with_suffix(".log")).open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, *program, str(base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
            cwd=ROOT / "tests",
        )
        assert self.process.stdout is not None
        self._unread = b""
        self.batches = 0
        self.deadline = time.monotonic() + START_LIMIT

    def request(self, content: dict[str, Any]) -> None:
        """Send a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(content).encode() + b"\n")
        self.process.stdin.flush()
        self.batches += 1
        self.deadline = time.monotonic() + START_LIMIT

    def answers(self) -> list[dict[str, Any]] | None:
        """Return the answers that have arrived; None if the process has ended."""
        assert self.process.stdout is not None
        received = os.read(self.process.stdout.fileno(), 1 << 16)
        if not received:
            return None
        *lines, self._unread = (self._unread + received).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> str:
        """Kill the process, remove its directory and return the end of what it printed."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                stream.close() if stream else None
        self.log.seek(0)
        printed = self.log.read()[-500:].decode(errors="replace")
        self.log.close()
        Path(self.log.name).unlink()
        for folder in (self.base, self.base.with_suffix(".hypothesis")):
            shutil.rmtree(folder, ignore_errors=True)
        return " ".join(printed.split())


@dataclass
class Task:
    """A worker's batch in progress."""

    worker: Worker
    reader: str = ""
    seed: int = 0
    index: int = -1
    running: bool = False


@dataclass
class Report:
    """Counts of a run."""

    cases: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, Any]] = field(default_factory=list)
    unconfirmed: list[dict[str, Any]] = field(default_factory=list)
    peak: int = 0
    slowest: float = 0.0


def replay(files: list[tuple[str, Path]]) -> list[dict[str, Any]]:
    """Run kept cases, each of a reader; returns their results in order."""
    results = []
    with tempfile.TemporaryDirectory(prefix="flipkd-fuzz-") as folder:
        worker: Worker | None = None
        for number, (reader, path) in enumerate(files):
            worker = worker or _started(Path(folder) / str(number))
            worker.request({"reader": reader, "file": str(path)})
            result = wait(worker, TIME_LIMIT)
            results.append(result)
            if result.get("finding") in ("crash", "hang", "memory"):
                worker.end()
                worker = None
        if worker is not None:
            worker.end()
    return results


def _started(base: Path) -> Worker:
    worker = Worker(base)
    result = wait(worker, START_LIMIT)
    if "ready" not in result:
        raise click.ClickException(f"the worker does not start: {result}")
    return worker


def wait(worker: Worker, limit: float) -> dict[str, Any]:
    """Return the result of a single case, or the answer of a start."""
    assert worker.process.stdout is not None
    result: dict[str, Any] = {}
    deadline = time.monotonic() + START_LIMIT
    while True:
        ready, _, _ = select.select([worker.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            worker.process.kill()
            return {"finding": "hang", "detail": f"longer than {limit:g} s"}
        answers = worker.answers()
        if answers is None:
            return {"finding": "crash", "detail": f"exit status {worker.process.wait()}"}
        for answer in answers:
            if "start" in answer:
                deadline = time.monotonic() + limit
            elif "done" in answer:
                return result
            elif "ready" in answer:
                return answer
            else:
                result = answer
                deadline = time.monotonic() + START_LIMIT


class Run:
    """A run for some minutes."""

    def __init__(self, folder: Path, readers: list[str], seed: int, workers: int) -> None:
        self._folder = folder
        self._readers = readers
        self._seed = seed
        self._started = 0
        self._batch = 0
        self._failed_outside = 0
        self._seen: set[tuple[str, str]] = set()
        self.report = Report()
        self._tasks = [Task(self._worker()) for _ in range(workers)]

    def _worker(self) -> Worker:
        self._started += 1
        return Worker(self._folder / f"worker-{self._started}")

    def until(self, end: float) -> None:
        """Run batches until a time; those in progress are finished."""
        while self._tasks:
            now = time.monotonic()
            wait = max(0.0, min(task.worker.deadline for task in self._tasks) - now)
            streams = {task.worker.process.stdout: task for task in self._tasks}
            ready, _, _ = select.select(list(streams), [], [], wait)
            for stream in ready:
                task = streams[stream]
                answers = task.worker.answers()
                if answers is None:
                    self._broken(task, "crash", f"exit status {task.worker.process.wait()}", end)
                for answer in answers or []:
                    self._take(task, answer, end)
            for task in [task for task in self._tasks if time.monotonic() > task.worker.deadline]:
                if task.worker.process.stdout not in ready:
                    self._broken(task, "hang", f"longer than {TIME_LIMIT:g} s", end)

    def _take(self, task: Task, answer: dict[str, Any], end: float) -> None:
        if "ready" in answer:
            self._next(task, end)
        elif "start" in answer:
            task.running, task.index = True, answer["start"]
            task.worker.deadline = time.monotonic() + TIME_LIMIT
        elif "done" in answer:
            if task.worker.batches >= BATCHES_PER_WORKER:
                self._replace(task, end)
            else:
                self._next(task, end)
        else:
            task.running = False
            task.worker.deadline = time.monotonic() + START_LIMIT
            self.report.cases[task.reader] += 1
            self.report.peak = max(self.report.peak, answer["peak"])
            self.report.slowest = max(self.report.slowest, answer["seconds"])
            if "finding" in answer:
                self._confirm(task, answer, bytes.fromhex(answer["content"]))
            else:
                self.report.outcomes[answer["outcome"]] += 1
            if answer["peak"] > RESIDENT_LIMIT:
                self._replace(task, end)

    def _next(self, task: Task, end: float) -> None:
        if time.monotonic() > end:
            task.worker.end()
            self._tasks.remove(task)
            return
        task.reader = self._readers[self._batch % len(self._readers)]
        task.seed = self._seed * 1_000_003 + self._batch // len(self._readers)
        self._batch += 1
        task.worker.request({"reader": task.reader, "seed": task.seed, "count": BATCH})

    def _broken(self, task: Task, kind: str, detail: str, end: float) -> None:
        """Count a case that has ended its worker."""
        if not task.running:
            self._failed_outside += 1
            if self._failed_outside > MOST_FAILURES_OUTSIDE:
                raise click.ClickException(f"workers keep failing outside cases: {task.worker.end()}")
            # A machine that does other work may take longer than the limit to start a worker.
            self._replace(task, end)
            return
        content = (task.worker.base / "current").read_bytes()
        self.report.cases[task.reader] += 1
        self._confirm(task, {"finding": kind, "detail": detail}, content)
        self._replace(task, end)

    def _replace(self, task: Task, end: float) -> None:
        task.worker.end()
        task.running = False
        task.worker = self._worker()
        if time.monotonic() > end:
            task.worker.end()
            self._tasks.remove(task)

    def _confirm(self, task: Task, finding: dict[str, Any], content: bytes) -> None:
        """Run a case again, alone in a fresh worker, and keep it if it is a finding again and the first of its kind."""
        entry = {"reader": task.reader, "finding": finding["finding"], "detail": finding["detail"], "seed": task.seed}
        entry["index"] = task.index
        key = task.reader, re.sub(r"[\d,]+", "#", str(finding["detail"]))[:60]
        if key in self._seen:
            self.report.findings.append(entry)
            return
        path = self._folder / hashlib.sha256(content).hexdigest()[:12]
        path.write_bytes(content)
        (again,) = replay([(task.reader, path)])
        if "finding" not in again:
            self.report.unconfirmed.append(entry)
            return
        self._seen.add(key)
        kept = CASES / task.reader / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, kept)
        entry["file"] = str(kept.relative_to(ROOT))
        self.report.findings.append(entry)
        click.echo(f"{task.reader}: {again['finding']}: {again['detail']} ({entry['file']})", err=True)


def written(report: Report, seconds: float, command: str, workers: int) -> dict[str, Any]:
    """Return the result that is committed."""
    counts = Counter(finding["finding"] for finding in report.findings)
    return {
        "command": command,
        "minutes": round(seconds / 60, 1),
        "workers": workers,
        "python": platform.python_version(),
        "cases": sum(report.cases.values()),
        "cases_by_reader": dict(sorted(report.cases.items())),
        "outcomes": dict(sorted(report.outcomes.items())),
        "findings": {kind: counts[kind] for kind in KINDS},
        "unconfirmed": report.unconfirmed[:50],
        "found": report.findings[:50],
        "slowest_seconds": round(report.slowest, 2),
        "peak_resident_bytes": report.peak,
        "limits": {"seconds": TIME_LIMIT, "resident_bytes": RESIDENT_LIMIT},
    }


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same cases.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--reader", "readers", multiple=True, type=click.Choice(READERS), help="Readers to fuzz; by default all.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, help="JSON file of the result.")
def main(minutes: float, seed: int, workers: int, readers: tuple[str, ...], out: Path) -> None:
    """Damage files of every kind and read them; exit with 1 if something happened that must not."""
    started = time.monotonic()
    # A worker that is being killed may still write.
    with tempfile.TemporaryDirectory(prefix="flipkd-fuzz-", ignore_cleanup_errors=True) as folder:
        run = Run(Path(folder), list(readers or READERS), seed, workers)
        run.until(started + 60 * minutes)
    arguments = f" FUZZ='--seed {seed}'" if seed else ""
    command = f"make fuzz MINUTES={minutes:g}{arguments}"
    result = written(run.report, time.monotonic() - started, command, workers)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    click.echo(f"{result['cases']:,} cases in {result['minutes']} minutes; findings: {result['findings']}; {out}")
    sys.exit(1 if run.report.findings else 0)


if __name__ == "__main__":
    main()
