"""What every part of the benchmark works with, and what it says about the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flipkd_sdk import Matcher
from flipkd_sdk.runtimes.onnx.instruction_sets import instruction_sets

if TYPE_CHECKING:
    from collections.abc import Iterable

THREADS = 2
BENCHMARKS = Path(__file__).parent.parent
_PACKAGES = ("flipkd-sdk", "numpy", "onnxruntime", "tokenizers", "fastembed", "sentence-transformers", "torch")


@dataclass(frozen=True)
class Setting:
    """What is measured, and how much of it."""

    matcher: Path
    scale: float

    def size(self, full: int) -> int:
        """A number of texts, pairs or processes, scaled."""
        return max(3, int(full * self.scale))

    def load(self) -> Matcher:
        """Open the matcher as every part does."""
        return Matcher.load(self.matcher, device="cpu", threads=THREADS, on_truncate="ignore")

    def model(self) -> Path:
        """The file of the variant that `load` opens."""
        with self.load() as matcher:
            return self.matcher / matcher.manifest.variant(matcher.precision).file

    def environment(self) -> dict[str, Any]:
        """The matcher, the machine and the versions that figures belong to."""
        with self.load() as matcher:
            manifest = matcher.manifest
            ran = {
                "precision": matcher.precision,
                "student": manifest.student.source,
                "layer": manifest.encoder.layer,
                "dimension": manifest.encoder.dimension,
                "max_length": manifest.tokenizer.max_length,
                "model_mb": manifest.variant(matcher.precision).bytes / 2**20,
            }
        return {
            "matcher": ran,
            "scale": self.scale,
            "threads": THREADS,
            "cpu": _cpu_name(),
            "cpus": len(os.sched_getaffinity(0)),
            "instruction_sets": instruction_sets(),
            "python": platform.python_version(),
            "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        }


def run_program(name: str, *arguments: str | Path, lines: Iterable[object] = ()) -> dict[str, Any]:
    """Run ``runtime/NAME.py`` in a process of its own, hand it JSON lines, and return the JSON object it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"runtime.{name}", *map(str, arguments)],
        input="".join(json.dumps(line) + "\n" for line in lines),
        stdout=subprocess.PIPE,
        text=True,
        cwd=BENCHMARKS,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"runtime/{name}.py ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def peer(name: str) -> None:
    """Stop with what to install where a peer is missing."""
    if _version(name) is None:
        raise click.ClickException(
            f"{name} is not installed; run: pip install --no-deps -r benchmarks/requirements.txt"
        )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
