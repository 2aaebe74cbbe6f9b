"""The record of machine, versions and options that every result contains, and the folders of the benchmarks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flipkd_sdk.runtimes.onnx.instruction_sets import instruction_sets

if TYPE_CHECKING:
    from collections.abc import Iterable

THREADS = 2
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def environment(packages: Iterable[str], **options: object) -> dict[str, Any]:
    """Return the machine and the versions of the installed packages, beside the options of a benchmark."""
    return {
        **options,
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "instruction_sets": list(instruction_sets()),
        "python": platform.python_version(),
        "packages": {name: installed for name in packages if (installed := version(name))},
    }


def data_folder(files: Iterable[str] = ()) -> Path:
    """Return the folder of the public data sets: ``$FLIPKD_DATA``, else ``../shared/data`` beside the project.

    Args:
        files: files that must exist in it.

    Raises:
        click.ClickException: the folder or a file is missing.
    """
    folder = Path(os.environ.get("FLIPKD_DATA", ROOT.parent / "shared" / "data"))
    for path in (folder, *(folder / name for name in files)):
        if not path.exists():
            raise click.ClickException(
                f"{path}: missing; the benchmarks read public data sets that the project does not ship: "
                "set FLIPKD_DATA to their folder"
            )
    return folder


def version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
