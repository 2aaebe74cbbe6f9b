"""``flipkd`` in child processes that start at once, because what it imports is imported before they are forked."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING

from flipkd_sdk.cli.commands.matching.score import score
from flipkd_sdk.cli.main import cli
from flipkd_sdk.cli.scoring.local_engine import LocalEngine
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["killed_after", "score"]

PATIENCE = 300
"""Seconds after which a process that should end by itself counts as hanging."""

load_onnxruntime()
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["killable", "pyarrow.parquet", "flipkd_sdk.cli.scoring.score_file", "flipkd_sdk.runtimes.matcher"]
)


def flipkd(arguments: Sequence[str], chunk_rows: int) -> None:
    LocalEngine.chunk_rows = chunk_rows
    cli.main(list(arguments), standalone_mode=False)


def killed_after(seconds: float | None, arguments: Sequence[str], *, chunk_rows: int) -> tuple[bool, float]:
    """Run ``flipkd`` and kill it by SIGKILL if it takes longer; whether that happened, and how long it ran.

    With None it is left to end by itself, and a failure if it does not.
    """
    process = _context.Process(target=flipkd, args=(arguments, chunk_rows))
    start = time.monotonic()
    process.start()
    process.join(PATIENCE if seconds is None else seconds)
    hangs = seconds is None and process.exitcode is None
    if process.exitcode is None:
        process.kill()
    process.join()
    assert not hangs, f"flipkd {' '.join(arguments)} hangs"
    assert process.exitcode in (0, -9), process.exitcode
    return process.exitcode == -9, time.monotonic() - start
