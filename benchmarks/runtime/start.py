"""Start-up time and resident memory of a process."""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.command_line import run
from runtime.parts import run_program, texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtime.parts import Setting

_PROGRAMS = Path(__file__).parent
_PROCESSES = 15
_PYTHON = (sys.executable, "-P")
"""Interpreter that imports the installed package, not the current directory."""
_QUIET = "ORT_DISABLE_TELEMETRY"
"""Variable that switches off the telemetry client that onnxruntime 1.29 and later start on import."""


def cold_start(setting: Setting) -> dict[str, Any]:
    """Measure process start to first score, against bare onnxruntime and tokenizers on the same files."""
    with setting.load() as matcher:
        tokenizer = setting.matcher / matcher.manifest.tokenizer.file
    bare = [sys.executable, _PROGRAMS / "bare_pair.py", setting.model(), tokenizer]
    found = _in_turn(
        setting,
        {
            "matcher": [sys.executable, _PROGRAMS / "matcher_pair.py", setting.matcher],
            "bare": bare,
            "bare_without_telemetry": ["env", f"{_QUIET}=1", *bare],
        },
    )
    ratio = found["matcher_to_bare"]
    return {**found, "target": "matcher at most 1.2 of bare (medians)", "met": ratio <= 1.2}


def import_time(setting: Setting) -> dict[str, Any]:
    """Measure the import with onnxruntime, against importing the three dependencies without an interpreter's start.

    The package imports onnxruntime when a matcher is loaded, so the import is forced here.
    """
    ours = "from flipkd_sdk import Matcher"
    engine = "from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime; load_onnxruntime()"
    bare = [*_PYTHON, "-c", "import numpy, onnxruntime, tokenizers"]
    found = _in_turn(
        setting,
        {
            "matcher": [*_PYTHON, "-c", ours],
            "matcher_and_engine": [*_PYTHON, "-c", f"{ours}; {engine}"],
            "bare": bare,
            "bare_without_telemetry": ["env", f"{_QUIET}=1", *bare],
        },
        base=[*_PYTHON, "-c", ""],
    )
    ratio = found["matcher_and_engine_seconds"] / found["bare_seconds"]
    return {
        **found,
        "matcher_and_engine_to_bare": ratio,
        "target": "matcher_and_engine at most 1.15 of bare (medians)",
        "met": ratio <= 1.15,
    }


def memory(setting: Setting) -> dict[str, Any]:
    """Measure resident memory after loading and after 10,000 pairs of distinct texts."""
    size = setting.size(10_000)
    found = run_program("resident", setting.matcher, lines=zip(texts(size, seed=1), texts(size, seed=2), strict=True))
    model_mb = setting.model().stat().st_size / 1e6
    limit = 1.5 * model_mb + 120
    return {
        **found,
        "model_mb": model_mb,
        "limit_mb": limit,
        "target": "after the pairs at most 1.5 times the model file + 120 MB",
        "met": found["after_pairs_mb"] <= limit,
    }


def _in_turn(
    setting: Setting, commands: Mapping[str, Sequence[str | Path]], *, base: Sequence[str | Path] | None = None
) -> dict[str, Any]:
    """Return the seconds of each command, started in turn so that other load affects all of them."""
    os.environ.pop(_QUIET, None)
    everything = {**commands, **({"base": base} if base else {})}
    seconds: dict[str, list[float]] = {name: [] for name in everything}
    for turn in range(setting.size(_PROCESSES) + 1):
        for name, command in everything.items():
            taken = run(command).seconds
            if turn:  # The first one reads the files from disk.
                seconds[name].append(taken)
    floor_median, floor_best = (pick(seconds["base"]) if base else 0.0 for pick in (statistics.median, min))
    medians = {name: statistics.median(seconds[name]) - floor_median for name in commands}
    best = {name: min(seconds[name]) - floor_best for name in commands}
    others = [name for name in commands if name.startswith("bare")]
    return {
        "processes_each": len(seconds["matcher"]),
        **({"empty_interpreter_seconds": floor_median} if base else {}),
        **{f"{name}_seconds": value for name, value in medians.items()},
        **{f"{name}_best_seconds": value for name, value in best.items()},
        **{f"matcher_to_{name}": medians["matcher"] / medians[name] for name in others},
        **{f"matcher_to_{name}_best": best["matcher"] / best[name] for name in others},
    }
