"""Parts of a benchmark with targets, each measured by itself and written at once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from environment import RESULTS, ROOT, THREADS, environment

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_PACKAGES = ("flipkd-sdk", "numpy", "onnxruntime", "tokenizers", "fastembed", "torch", "usearch", "ray")
_OPENINGS = [
    *("how can I", "where do I", "why did you", "is it possible to"),
    *("I would like to", "when can I", "I forgot to"),
]
_VERBS = ["block", "reset", "order", "cancel", "check", "change", "open", "close", "pay", "withdraw", "report", "renew"]
_OBJECTS = [
    *("my card", "the PIN", "a loan", "an account"),
    *("my last payment", "the fee", "a standing order", "my password"),
]
_ENDINGS = ["", "abroad", "online", "at the branch", "before the weekend", "without the app", "again", "by phone"]


@dataclass(frozen=True)
class Setting:
    """The matcher under test, and the amount of work."""

    matcher: Path
    scale: float
    folder: Path
    """Temporary folder for tables."""

    def size(self, full: int) -> int:
        """Return a scaled number of texts, pairs or processes."""
        return max(3, int(full * self.scale))

    def load(self) -> Matcher:
        """Open the matcher with the options of all parts."""
        return Matcher.load(self.matcher, device="cpu", threads=THREADS, on_truncate="ignore")

    def model(self) -> Path:
        """Return the file of the variant that `load` opens."""
        with self.load() as matcher:
            return self.matcher / matcher.manifest.variant(matcher.precision).file

    def dimension(self) -> int:
        """Return the length of the matcher's vectors."""
        with self.load() as matcher:
            return matcher.dimension

    def environment(self) -> dict[str, Any]:
        """Return the environment record with the matcher."""
        with self.load() as matcher:
            manifest = matcher.manifest
            described = {
                "precision": matcher.precision,
                "student": manifest.student.source,
                "layer": manifest.encoder.layer,
                "dimension": manifest.encoder.dimension,
                "max_length": manifest.tokenizer.max_length,
                "model_mb": manifest.variant(matcher.precision).bytes / 1e6,
            }
        return environment(_PACKAGES, matcher=described, scale=self.scale, threads=THREADS)


Part = "Callable[[Setting], dict[str, Any]]"


def parts_command(name: str, parts: Mapping[str, Callable[[Setting], dict[str, Any]]], summary: str) -> click.Command:
    """Return the command ``python benchmarks NAME MATCHER``, which writes ``results/NAME.json`` part by part."""

    @click.command(name, help=f"{summary} Parts that are left out keep their results.")
    @click.argument("matcher", type=click.Path(exists=True, file_okay=False, path_type=Path))
    @click.option("--only", multiple=True, type=click.Choice(list(parts)), help="Run only this part; repeatable.")
    @click.option("--scale", default=1.0, show_default=True, help="Share of the work, for a trial without meaning.")
    @click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS / f"{name}.json")
    def command(matcher: Path, only: Sequence[str], scale: float, results: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(matcher.resolve(), scale, Path(folder))
            described = setting.environment()
            for part in only or parts:
                measured = {**parts[part](setting), "command": f"python benchmarks {name} MATCHER --only {part}"}
                click.echo(f"{part}: {json.dumps(measured, indent=2)}")
                found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
                found[part] = {**measured, "environment": described}
                results.parent.mkdir(parents=True, exist_ok=True)
                results.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")

    return command


def texts(count: int, *, seed: int) -> list[str]:
    """Return distinct questions of bank customers, of 5 to 14 words."""
    chosen = random.Random(seed)
    return [
        " ".join([chosen.choice(part) for part in (_OPENINGS, _VERBS, _OBJECTS, _ENDINGS)] + [f"number {seed}{i}"])
        for i in range(count)
    ]


def run_program(name: str, *arguments: object, lines: Iterable[object] = ()) -> dict[str, Any]:
    """Run ``runtime/NAME.py`` in its own process on JSON lines, and return the JSON object that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"runtime.{name}", *map(str, arguments)],
        input="".join(json.dumps(line) + "\n" for line in lines),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT / "benchmarks",
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"runtime/{name}.py ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
