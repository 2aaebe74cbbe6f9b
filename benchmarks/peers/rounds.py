"""Work given to all systems in turn, round after round, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker import serve_gemm, serve_system

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from gemm import Shape
    from numpy.typing import NDArray
    from systems import SystemSpec
    from workloads import Workloads

_PATIENCE = 900
"""Seconds until a system counts as hanging."""
_PAUSE = 0.05
"""Seconds between two systems, in which threads of the first stop to spin."""


class SystemFailedError(Exception):
    """A system could not do its work; the message is the reason in its row."""


class Worker:
    """A process that does what it is asked to."""

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, *arguments), daemon=True)
        self._process.start()
        other.close()

    def answer(self) -> Any:  # noqa: ANN401 - whatever was asked for
        """What the process says; its first answer comes unasked, once it is ready.

        Raises:
            SystemFailedError: it reports an error, has ended, or says nothing for 15 minutes.
        """
        try:
            if not self._connection.poll(_PATIENCE):
                raise SystemFailedError(f"no answer within {_PATIENCE} seconds")
            done, answer = self._connection.recv()
        except EOFError:
            self._process.join(10)
            raise SystemFailedError(f"its process ended with {self._process.exitcode}") from None
        if not done:
            raise SystemFailedError(answer)
        return answer

    def call(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401
        """Ask, and wait for the answer. Raises as `answer` does."""
        time.sleep(_PAUSE)
        try:
            self._connection.send((name, arguments))
        except OSError:
            raise SystemFailedError(f"its process ended with {self._process.exitcode}") from None
        return self.answer()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()


@dataclass
class Measured:
    """What was measured of a system; lists have one element per round."""

    spec: SystemSpec
    problem: str | None = None
    cold_seconds: list[float] = field(default_factory=list)
    cold_mb: list[float] = field(default_factory=list)
    single_seconds: list[list[float]] = field(default_factory=list)
    """Of each pair of each round."""
    texts_seconds: list[float] = field(default_factory=list)
    index_seconds: float = 0.0
    nearest_seconds: list[float] = field(default_factory=list)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    nearest: list[int] = field(default_factory=list)
    """Best candidate of each query, in the order of the rounds."""
    dev_scores: NDArray[np.floating] | None = None
    test_scores: NDArray[np.floating] | None = None
    """Of a system that has no vectors."""
    peak_mb: float = 0.0
    note: str = ""


def cold_starts(measured: Sequence[Measured], rounds: int) -> None:
    """Time from the start of a process to its first score, and its resident memory then."""
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
                if round_:  # The first one fills the caches of the file system and of bytecode.
                    one.cold_seconds.append(seconds)
                    one.cold_mb.append(mb)


def _cold_start(spec: Path) -> tuple[float, float]:
    command = [sys.executable, str(Path(__file__).with_name("cold.py")), str(spec)]
    errors = spec.with_name("errors.txt")
    with errors.open("w") as file:
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as process:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            line = process.stdout.readline()
            seconds = time.perf_counter() - start
    if not line:
        said = errors.read_text(errors="replace").strip()
        raise SystemFailedError(said.splitlines()[-1][:300] if said else f"its process ended with {process.returncode}")
    return seconds, float(line)


def measure(measured: Sequence[Measured], work: Workloads, rounds: int, shapes: Sequence[Shape]) -> list[Any]:
    """Let every system do all the work, a part of it in each round; the rates of `GemmBench` in each round."""
    workers = {}
    for one in measured:
        if one.problem is None:
            workers[one.spec.name] = Worker(serve_system, one.spec, work.sample)
            _attempt(one, workers[one.spec.name].answer)
    gemm = Worker(serve_gemm, shapes)
    rates = []
    try:
        gemm.answer()
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
