"""A system in a process of its own, which waits for work: nothing of one system slows down or swells another."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from systems import THREADS, System, SystemSpec, open_system

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from gemm import Shape

ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(THREADS)),
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Of every system's process: two threads for each library, and no network."""


def serve_system(connection: Connection, spec: SystemSpec, sample: Sequence[str]) -> None:
    """Open a system, and answer calls until there are no more."""

    def start() -> dict[str, Callable[..., Any]]:
        calls = _Calls(open_system(spec, sample))
        calls.warm_up(sample)
        return {
            name: getattr(calls, name) for name in ("single", "texts", "index", "nearest", "similarities", "peak_mb")
        }

    _serve(connection, start)


def serve_gemm(connection: Connection, shapes: Sequence[Shape]) -> None:
    """Time products of matrices when asked."""

    def start() -> dict[str, Callable[..., Any]]:
        from gemm import GemmBench

        return {"rates": GemmBench(shapes, THREADS).rates}

    _serve(connection, start)


def silence() -> None:
    """Send what libraries print to standard output to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def memory_mb(field: str) -> float:
    """``VmRSS``, the resident memory of this process, or ``VmHWM``, the most it ever was, in MB (10⁶ bytes)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:"))


class _Calls:
    """What a system can be asked for; seconds are measured here, so that no message between processes counts."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._index: Any = None

    def warm_up(self, sample: Sequence[str]) -> None:
        if self._system.encode is not None:
            self._system.encode(sample)
        for a, b in zip(sample[:8], sample[8:16], strict=False):
            self._system.score(a, b)

    def single(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Seconds of each pair, scored alone."""
        seconds = []
        for a, b in pairs:
            start = time.perf_counter()
            self._system.score(a, b)
            seconds.append(time.perf_counter() - start)
        return seconds

    def texts(self, texts: Sequence[str]) -> tuple[float, Any]:
        """Seconds and vectors; None where there are no vectors."""
        if self._system.encode is None:
            return 0.0, None
        return _timed(self._system.encode, texts)

    def index(self, candidates: Sequence[str]) -> float:
        """Seconds to prepare candidates; those before are forgotten."""
        seconds, self._index = _timed(self._system.index, candidates)
        return seconds

    def nearest(self, queries: Sequence[str]) -> tuple[float, Any]:
        """Seconds, and the best candidate of each query."""
        return _timed(self._system.nearest, queries, self._index)

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> Any:  # noqa: ANN401 - an array
        return self._system.similarities(pairs)

    def peak_mb(self) -> tuple[float, str]:
        """The most memory so far, and what was chosen when the system was opened."""
        return memory_mb("VmHWM"), self._system.note


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:  # noqa: ANN401
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def _serve(connection: Connection, start: Callable[[], dict[str, Callable[..., Any]]]) -> None:
    silence()
    try:
        calls = start()
        connection.send((True, None))
        while call := connection.recv():
            name, arguments = call
            connection.send((True, calls[name](*arguments)))
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - whatever a peer raises becomes the reason in its row
        message = " ".join(str(error).split())
        connection.send((False, f"{type(error).__name__}: {message[:300]}"))
