"""Train the planned experiments that have no result, one after the other, and write a results file for each."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from environment import data_folder, environment
from experiments.inputs import prepare
from experiments.measure import Exported, measure_export, test_scores
from experiments.plan import RUNS, Run

from flipkd_sdk.cli.third_party_logging import quieten_transformers
from flipkd_sdk.errors import FlipKDError
from flipkd_sdk.training.models.sources import default_cache_dir

if TYPE_CHECKING:
    from collections.abc import Sequence

FLIPKD = Path(sys.executable).with_name("flipkd")
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("flipkd-sdk", "torch", "transformers", "peft", "accelerate", "numpy", "tokenizers", "onnxruntime", "onnx")


class RunFailedError(Exception):
    """A training failed; it has reported the reason."""


@dataclass(frozen=True)
class Places:
    """Folders that runs read and write."""

    data: Path
    work: Path
    results: Path

    def directory(self, run: Run) -> Path:
        """Return the run directory, which changes with the plan."""
        return self.work / "runs" / f"{run.name}-{run.digest}"

    def result(self, run: Run) -> Path:
        """Return the results file."""
        return self.results / f"{run.name}.json"

    def portable(self, text: str) -> str:
        """Return a text with placeholders for the folders of this machine."""
        for path, name in ((self.work, "$WORK"), (self.data, "$FLIPKD_DATA")):
            text = text.replace(str(path), name)
        return text


def is_done(run: Run, places: Places) -> bool:
    """Return whether the run has a result of its current options."""
    file = places.result(run)
    return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["digest"] == run.digest


def training_options(run: Run, inputs: Path, teacher: Path | None) -> dict[str, object]:
    """Return the options of ``flipkd train``, by dotted name."""
    places = {"inputs": inputs, "teacher": teacher}
    options = {
        name: value.format(**places) if isinstance(value, str) else value
        for name, value in (run.defaults | run.options).items()
    }
    return {**options, "seed": run.seed}


def execute(run: Run, places: Places) -> None:
    """Train, export if planned, measure, and write the results file when it is complete.

    Raises:
        RunFailedError: the training failed.
        FlipKDError: the run cannot be exported or measured.
    """
    directory = train(run, places)
    exported = measure_export(directory) if run.exported else Exported()
    record = {
        "name": run.name,
        "command": f"python benchmarks experiments {run.name}",
        "digest": run.digest,
        "seed": run.seed,
        "starts": len(_starts(directory).read_text().split()),
        "environment": environment(PACKAGES),
        "config": _read(directory / "config.json", places),
        "result": _read(directory / "result.json", places),
        "exported": exported.variants,
        "export_refused": exported.refused,
        "scores": test_scores(directory) | exported.scores,
    }
    places.results.mkdir(parents=True, exist_ok=True)
    unfinished = places.result(run).with_suffix(".unfinished")
    unfinished.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(places.result(run))


def train(run: Run, places: Places) -> Path:
    """Train a run, or the rest of it, after the run that it needs, and return its directory.

    Raises:
        RunFailedError: the training failed.
    """
    teacher = train(run.needs, places) / "teacher" if run.needs is not None else None
    directory = places.directory(run)
    if (directory / "result.json").is_file():
        return directory
    options = training_options(run, prepare(run.data, places.data, places.work), teacher)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _starts(directory).open("a") as starts:
        starts.write(f"{time.time():.0f}\n")
    # What JSON says of texts, numbers and truth values is TOML as well.
    settings = [f"--set={name}={json.dumps(value)}" for name, value in options.items()]
    if code := call("train", "--out", directory, "--resume", *settings):
        raise RunFailedError(f"{run.name}: flipkd train ended with {code}")
    return directory


def _starts(directory: Path) -> Path:
    """Return the file with a line for each start of the training."""
    return directory.with_name(f"{directory.name}.starts")


def call(*arguments: str | Path) -> int:
    """Run flipkd and wait for it, also after Ctrl-C, because it then writes a checkpoint."""
    with subprocess.Popen([str(FLIPKD), *map(str, arguments)]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def _read(file: Path, places: Places) -> Any:
    return json.loads(places.portable(file.read_text(encoding="utf-8")))


def chosen(names: Sequence[str]) -> list[Run]:
    """Return the planned runs with one of the names or of one of the sets, or all runs."""
    known = {name for run in RUNS for name in (run.name, run.data)}
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"there is no run or set {unknown[0]!r}; --list shows them")
    return [run for run in RUNS if not names or run.name in names or run.data in names]


@click.command("experiments")
@click.argument("names", metavar="[NAME|SET ...]", nargs=-1)
@click.option("--work", type=click.Path(path_type=Path), help="Folder of run directories and inputs.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the results files.")
@click.option("--list", "listing", is_flag=True, help="Show the runs, and train nothing.")
def main(names: tuple[str, ...], work: Path | None, results: Path, listing: bool) -> None:
    """Train the runs of plan.py that have no result yet."""
    runs = chosen(names)
    data = Path() if listing else data_folder()
    places = Places(data.resolve(), (work or default_cache_dir() / "experiments").resolve(), results)
    waiting = [run for run in runs if not is_done(run, places)]
    if listing:
        for run in runs:
            click.echo(f"{'to do' if run in waiting else 'done':6}{run.minutes:5} min  {run.name:24}{run.label}")
        click.echo(f"to do: {len(waiting)} runs, about {sum(run.minutes for run in waiting) / 60:.1f} hours")
        return
    quieten_transformers()
    failed = []
    for number, run in enumerate(waiting, start=1):
        click.echo(f"{time.strftime('%H:%M')} {number} of {len(waiting)}: {run.name}, about {run.minutes} minutes")
        try:
            execute(run, places)
        except (RunFailedError, FlipKDError, OSError) as error:
            click.echo(f"{run.name}: {error}", err=True)
            failed.append(run.name)
    click.echo(f"{len(runs) - len(waiting)} runs had a result, {len(waiting) - len(failed)} were done now")
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")
