"""Scheduler that gives work to all systems in turn, so that other load affects all of them."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers.worker import answer, prepare_gemm, prepare_system

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray
    from peers.gemm import Shape
    from peers.systems import SystemSpec
    from peers.workloads import Workloads

_PATIENCE = 900
"""Seconds until a system counts as hanging."""
_BENCHMARKS = Path(__file__).parents[1]
_PAUSE = 0.05
"""Seconds between two systems, in which the threads of the first stop spinning."""


class SystemFailedError(Exception):
    """A system failed; the message is the reason in its row."""


class Worker:
    """A process of its own that is prepared once and then runs one function at a time."""

    def __init__(self, prepare: Callable[..., object], *arguments: Any) -> None:
        self._executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self._prepared = self._executor.submit(prepare, *arguments)

    def wait(self) -> None:
        """Wait until the process is prepared. Raises as `call` does."""
        _result(self._prepared)

    def call(self, name: str, *arguments: Any) -> Any:
        """Return the answer of a function that the preparation registered; see `worker.answer`.

        Raises:
            SystemFailedError: the function failed, the process ended, or there was no answer in time.
        """
        time.sleep(_PAUSE)
        return _result(self._executor.submit(answer, name, *arguments))

    def close(self) -> None:
        """End the process."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[Any]) -> Any:
    try:
        return future.result(_PATIENCE)
    except BrokenProcessPool:
        raise SystemFailedError("its process ended") from None
    except TimeoutError:
        raise SystemFailedError(f"no answer within {_PATIENCE} seconds") from None
    except Exception as error:
        raise SystemFailedError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from None


@dataclass
class Measured:
    """Measurements of a system; lists have one element per round."""

    spec: SystemSpec
    problem: str | None = None
    cold_seconds: list[float] = field(default_factory=list)
    cold_mb: list[float] = field(default_factory=list)
    single_seconds: list[list[float]] = field(default_factory=list)
    """Seconds of each pair of each round."""
    texts_seconds: list[float] = field(default_factory=list)
    index_seconds: float = 0.0
    nearest_seconds: list[float] = field(default_factory=list)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    nearest: list[int] = field(default_factory=list)
    """Best candidate of each query, in the order of the rounds."""
    dev_scores: NDArray[np.floating] | None = None
    test_scores: NDArray[np.floating] | None = None
    """Scores of a system without vectors."""
    peak_mb: float = 0.0
    note: str = ""


def cold_starts(measured: Sequence[Measured], rounds: int) -> None:
    """Measure the time from process start to the first score, and the resident memory then."""
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(rounds + 1):
            for one in measured:
                if one.problem is not None:
                    continue
                file = Path(folder) / "spec.json"
                file.write_text(json.dumps(asdict(one.spec)), encoding="utf-8")
                try:
                    seconds, mb = _cold_start(file)
                except SystemFailedError as error:
                    one.problem = str(error)
                    continue
                if round_:  # The first start fills the caches of the file system and of bytecode.
                    one.cold_seconds.append(seconds)
                    one.cold_mb.append(mb)


def _cold_start(spec: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "peers.cold", str(spec)]
    errors = spec.with_name("errors.txt")
    with errors.open("w") as file:
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, cwd=_BENCHMARKS) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = time.perf_counter() - start
    if not line:
        said = errors.read_text(errors="replace").strip()
        raise SystemFailedError(said.splitlines()[-1][:300] if said else f"its process ended with {process.returncode}")
    return seconds, float(line)


def measure(measured: Sequence[Measured], work: Workloads, rounds: int, shapes: Sequence[Shape]) -> list[Any]:
    """Give every system all work, a part per round, and return the rates of `GemmBench` in each round."""
    workers = {}
    for one in measured:
        if one.problem is None:
            workers[one.spec.name] = Worker(prepare_system, one.spec, work.sample)
            _attempt(one, workers[one.spec.name].wait)
    gemm = Worker(prepare_gemm, shapes)
    rates = []
    try:
        gemm.wait()
        for part in range(rounds):
            rates.append(gemm.call("rates"))
            for step in (_single, _texts, _rank):
                for one in measured:
                    if one.problem is None:
                        _attempt(one, lambda one=one, step=step, part=part: step(one, workers, work, part, rounds))
        for one in measured:
            if one.problem is None:
                _attempt(one, lambda one=one: _rest(one, workers[one.spec.name], work))
    finally:
        for worker in (gemm, *workers.values()):
            worker.close()
    return rates


def _attempt(one: Measured, action: Callable[[], object]) -> None:
    try:
        action()
    except SystemFailedError as error:
        one.problem = str(error)


def _single(one: Measured, workers: dict[str, Worker], work: Workloads, part: int, rounds: int) -> None:
    one.single_seconds.append(workers[one.spec.name].call("single", work.single[part::rounds]))


def _texts(one: Measured, workers: dict[str, Worker], work: Workloads, part: int, rounds: int) -> None:
    texts = work.texts[part::rounds]
    seconds, vectors = workers[one.spec.name].call("texts", texts)
    if vectors is not None:
        one.texts_seconds.append(seconds)
        one.vectors.update(zip(texts, vectors, strict=True))


def _rank(one: Measured, workers: dict[str, Worker], work: Workloads, part: int, rounds: int) -> None:
    worker = workers[one.spec.name]
    if part == 0:
        one.index_seconds = worker.call("index", work.candidates)
    seconds, nearest = worker.call("nearest", work.queries[part::rounds])
    one.nearest_seconds.append(seconds)
    one.nearest += nearest.tolist()


def _rest(one: Measured, worker: Worker, work: Workloads) -> None:
    if not one.vectors:
        one.dev_scores, one.test_scores = (
            worker.call("similarities", list(zip(pairs.a, pairs.b, strict=True))) for pairs in (work.dev, work.test)
        )
    one.peak_mb, one.note = worker.call("peak_mb")
