"""``flipkd train``: train a student on pairs of texts and write a run directory."""

from __future__ import annotations

import logging
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import columns, print_json, resume_command
from flipkd_sdk.cli.third_party_logging import quieten_transformers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flipkd_sdk.training.run_directory import RunResult

_RETRIEVAL = ("top1", "mrr")


def _assignment(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, object]:
    """Parse texts like ``loss.margin=0.2`` to options by name; a value that is not TOML is text."""
    options: dict[str, object] = {}
    for text in values:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals):
            raise click.BadParameter(f"{text!r}; write it as section.option=VALUE")
        try:
            parsed = tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            parsed = {}
        options[name] = parsed["value"] if parsed.keys() == {"value"} else value
    return options


@click.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run directory to write.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in the run directory.")
@click.option("--resume", is_flag=True, help="Continue a stopped run in the run directory.")
@click.option("--pairs", metavar="FILE", help="Labelled pairs, CSV or JSONL; split unless --dev is given.")
@click.option("--dev", metavar="FILE", help="Development pairs.")
@click.option("--test", metavar="FILE", help="Test pairs.")
@click.option("--texts", metavar="FILE", help="Unlabelled texts of the domain.")
@click.option("--a-column", metavar="COLUMN", help="Column of the first texts.  [default: text_a]")
@click.option("--b-column", metavar="COLUMN", help="Column of the second texts.  [default: text_b]")
@click.option("--label-column", metavar="COLUMN", help="Column of the labels, 0 or 1.  [default: label]")
@click.option("--teacher", metavar="SOURCE", help="Encoder: a directory, package:NAME or a hub id.")
@click.option("--student", metavar="SOURCE", help="LLM: a directory, a .gguf file, package:NAME or a hub id.")
@click.option(
    "--preset",
    metavar="NAME",
    help="Preset: static (no block: the fastest), paper (rank 256 at the last block) or labels (no teacher).",
)
@click.option("--layer", type=int, metavar="N", help="Decoder block with the encoder site; -1 is the last.")
@click.option("--objective", metavar="NAME", help="Objective of the threshold: f1 or 'precision>=P'.  [default: f1]")
@click.option("--seed", type=int, metavar="N", help="Seed of splits, weights and order.  [default: 0]")
@click.option(
    "--set",
    "assigned",
    multiple=True,
    callback=_assignment,
    metavar="SECTION.OPTION=VALUE",
    help="Any option of the CONFIG file; repeatable.",
)
@options.json_option
def train(
    config: Path | None,
    out: Path,
    overwrite: bool,
    resume: bool,
    pairs: str | None,
    dev: str | None,
    test: str | None,
    texts: str | None,
    a_column: str | None,
    b_column: str | None,
    label_column: str | None,
    teacher: str | None,
    student: str | None,
    preset: str | None,
    layer: int | None,
    objective: str | None,
    seed: int | None,
    assigned: dict[str, object],
    as_json: bool,
) -> None:
    """Train a matcher on labelled pairs of texts: a small encoder, the teacher, teaches an LLM, the student.

    CONFIG is a TOML file of options. Options of the command line override it. Paths in the file are relative to the
    file. 'flipkd export' makes a matcher of the run directory, and its report.html contains the results.

    \b
    flipkd train --pairs faq.csv --out runs/faq
    flipkd train faq.toml --out runs/faq --seed 1 --set labels.epochs=3
    """  # noqa: D301 - click reads the backspace
    named: dict[str, object] = {
        "data.pairs": pairs,
        "data.dev": dev,
        "data.test": test,
        "data.texts": texts,
        "data.a_column": a_column,
        "data.b_column": b_column,
        "data.label_column": label_column,
        "teacher.source": teacher,
        "student.source": student,
        "preset": preset,
        "student.layer": layer,
        "objective": objective,
        "seed": seed,
    }
    given = {name: value for name, value in named.items() if value is not None} | assigned
    if overwrite and resume:
        raise click.UsageError("--overwrite replaces a run and --resume continues it; choose one")
    if config is None and "data.pairs" not in given and not resume:
        raise click.UsageError("give a CONFIG file, or --pairs FILE")

    from flipkd_sdk.training.config.load import override, read_options, validate_config

    content = override(read_options(config) if config else {}, given)
    origin = " and ".join(filter(None, (str(config or ""), "the command line" if given else "")))
    if config is None and not given:
        from flipkd_sdk.training.run_directory import read_config

        checked = read_config(out)
    else:
        checked = validate_config(content, origin=origin)
    quieten_transformers()

    from flipkd_sdk.training import distributed
    from flipkd_sdk.training.run import train as run_training

    distributed.start()
    if not distributed.is_main():  # One warning is enough; the main process logs it.
        logging.getLogger("flipkd_sdk").setLevel(logging.ERROR)
    try:
        result = run_training(checked, out, overwrite=overwrite, resume=resume)
    except (KeyboardInterrupt, SystemExit):
        if distributed.is_main() and (out / "config.json").is_file():
            click.echo(f"flipkd: {out}: go on with: {resume_command()}", err=True)
        raise
    if distributed.is_main() and as_json:
        print_json({"run": str(out), "report": str(out / "report.html"), **result.model_dump(mode="json")})
    elif distributed.is_main():
        click.echo("\n\n".join(_summary(result, out)))


def _summary(result: RunResult, out: Path) -> Iterator[str]:
    from flipkd_sdk.evaluation.metrics import MEASURES

    split = "test" if result.pairs["test"] else "dev"
    head = (f"{split} split, {result.pairs[split]:,} pairs", *(name.replace("_", " ") for name in MEASURES))
    rows = [
        (system, *(f"{splits[split][name]:.4f}" for name in MEASURES)) for system, splits in result.measures.items()
    ]
    yield columns([head, *rows])
    if result.retrieval:
        head = (f"retrieval, {result.queries:,} queries", *(name for name in _RETRIEVAL))
        rows = [
            (system, *(f"{values[name]:.4f}" for name in _RETRIEVAL)) for system, values in result.retrieval.items()
        ]
        yield columns([head, *rows])
    if result.verdict:
        yield "\n".join(result.verdict)
    yield columns([("run", str(out)), ("report", str(out / "report.html")), ("next", f"flipkd export {out} --out DIR")])
