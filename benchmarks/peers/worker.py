"""The functions of a system in its own process, so that no system affects time or memory of another."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from environment import THREADS
from memory import PEAK, memory_mb
from peers.systems import System, SystemSpec, open_system

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from peers.gemm import Shape

ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(THREADS)),
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Environment of every system's process: two threads for each library, and no network."""


_functions: dict[str, Callable[..., Any]] = {}


def prepare_system(spec: SystemSpec, sample: Sequence[str]) -> None:
    """Open a system in this process and register the functions that `answer` calls."""
    _silence()
    calls = _Calls(open_system(spec, sample))
    calls.warm_up(sample)
    names = ("single", "texts", "index", "nearest", "similarities", "peak_mb")
    _functions.update({name: getattr(calls, name) for name in names})


def prepare_gemm(shapes: Sequence[Shape]) -> None:
    """Prepare matrix products in this process."""
    _silence()
    from peers.gemm import GemmBench

    _functions.update(rates=GemmBench(shapes, THREADS).rates)


def answer(name: str, *arguments: Any) -> Any:
    """Call a registered function."""
    return _functions[name](*arguments)


def _silence() -> None:
    """Discard what libraries print to standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Calls:
    """Functions of a system; seconds are measured here, without the messages between processes."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._index: Any = None

    def warm_up(self, sample: Sequence[str]) -> None:
        if self._system.encode is not None:
            self._system.encode(sample)
        for a, b in zip(sample[:8], sample[8:16], strict=False):
            self._system.score(a, b)

    def single(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the seconds of each pair, scored alone."""
        seconds = []
        for a, b in pairs:
            start = time.perf_counter()
            self._system.score(a, b)
            seconds.append(time.perf_counter() - start)
        return seconds

    def texts(self, texts: Sequence[str]) -> tuple[float, Any]:
        """Return seconds and vectors, or None for a system without vectors."""
        if self._system.encode is None:
            return 0.0, None
        return _timed(self._system.encode, texts)

    def index(self, candidates: Sequence[str]) -> float:
        """Prepare candidates and return the seconds."""
        seconds, self._index = _timed(self._system.index, candidates)
        return seconds

    def nearest(self, queries: Sequence[str]) -> tuple[float, Any]:
        """Return seconds and the best candidate of each query."""
        return _timed(self._system.nearest, queries, self._index)

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> Any:
        return self._system.similarities(pairs)

    def peak_mb(self) -> tuple[float, str]:
        """Return the peak memory and the note of the system."""
        return memory_mb(PEAK), self._system.note


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result
