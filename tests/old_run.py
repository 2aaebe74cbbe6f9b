"""A run directory that release 0.1.0 wrote, with the options that later releases removed."""

from __future__ import annotations

import shutil
from pathlib import Path

_FIXTURE = Path(__file__).with_name("fixtures") / "run_0_1_0"


def copy_old_run(path: Path) -> Path:
    """Copy the run and its LLM into a new directory, put the place of the LLM into its files, and return the run."""
    shutil.copytree(_FIXTURE, path)
    for name in ("config.json", "result.json"):
        file = path / "run" / name
        file.write_text(file.read_text(encoding="utf-8").replace("INPUTS", str(path / "inputs")), encoding="utf-8")
    return path / "run"
