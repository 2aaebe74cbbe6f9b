"""``python benchmarks compat``: a matcher's graphs in other runtimes and releases, each in its own environment."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from flipkd_sdk.artifact.manifest import read_manifest

RUNTIMES = {
    "onnxruntime": ("1.17.3", "1.20.1", "1.22.1", "1.23.2", "1.32.0"),
    "openvino": ("2026.4.1",),
    "tract": ("0.23.9",),
}
_CHECK = Path(__file__).with_name("check.py")
_OLD_NUMPY = ("1.17.3",)
"""Releases built for numpy 1."""


@click.command()
@click.argument("matchers", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default="benchmarks/results/compat.json", show_default=True)
@click.option("--runtime", "chosen", multiple=True, metavar="NAME==VERSION", help="A runtime.  [default: all]")
def compat(matchers: tuple[Path, ...], out: Path, chosen: tuple[str, ...]) -> None:
    """Compare the reference vectors of MATCHERS with those of other runtimes, installed by pip one after the other."""
    wanted = chosen or tuple(f"{name}=={version}" for name, versions in RUNTIMES.items() for version in versions)
    results: dict[str, Any] = {}
    for requirement in wanted:
        name, _, version = requirement.partition("==")
        with tempfile.TemporaryDirectory() as environment:
            python = _environment(Path(environment), requirement, "numpy<2" if version in _OLD_NUMPY else "numpy")
            results[requirement] = {
                f"{matcher.name} {precision}": _checked(python, matcher, precision, name)
                if python
                else "not installable"
                for matcher in matchers
                for precision in read_manifest(matcher).variants
            }
        click.echo(f"{requirement}: {json.dumps(results[requirement])}")
    out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _environment(directory: Path, *requirements: str) -> Path | None:
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    python = directory / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=False, capture_output=True)
    return python if done.returncode == 0 else None


def _checked(python: Path, matcher: Path, precision: str, runtime: str) -> object:
    done = subprocess.run(
        [python, _CHECK, matcher, precision, runtime], check=False, capture_output=True, text=True, timeout=600
    )
    if done.returncode == 0:
        return json.loads(done.stdout)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return {"error": lines[-1][:200] if lines else f"exit code {done.returncode}"}
