"""``flipkd score``: add a score and a match to each row of a table of pairs."""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import print_json
from flipkd_sdk.cli.tables.columns import Column, TextFormat
from flipkd_sdk.cli.tables.files import STANDARD_STREAM, TABLE_SUFFIXES
from flipkd_sdk.errors import InvalidPairsError, OutputExistsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flipkd_sdk.cli.scoring.loop import Engine
    from flipkd_sdk.cli.tables.files import TableFormat


@click.command(
    epilog=options.examples(
        "flipkd score faq-matcher pairs.csv --out scored.csv",
        "flipkd score faq-matcher export.csv --a-column Frage --b-column 3 --encoding cp1252 --out scored.parquet",
        "cat pairs.jsonl | flipkd score faq-matcher - --format jsonl --only-matches | jq .id",
    )
)
@options.matcher_argument
@click.argument("table", type=click.Path(allow_dash=True))
@options.text_column_options
@click.option(
    "--out", type=click.Path(allow_dash=True), default="-", help="File or folder to write.  [default: standard output]"
)
@click.option("--overwrite", is_flag=True, help="Replace the output if there is one.")
@click.option("--resume", is_flag=True, help="Continue a run that stopped before its end.")
@options.table_options
@click.option("--score-column", default="score", show_default=True, help="Name of the column of match probabilities.")
@click.option("--match-column", default="match", show_default=True, help="Name of the column with 1 for a match.")
@options.output_text_options
@click.option("--score-cutoff", type=click.FloatRange(0, 1), help="Write only rows that score at least this.")
@click.option("--only-matches", is_flag=True, help="Write only rows that are matches.")
@options.threshold_option
@options.familiarity_option("Add a column with the familiarity of each row's less familiar text.")
@click.option(
    "--explain", is_flag=True, help="Add a column 'explanation': pairs of words and their contributions to the cosine."
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="Action for a row that cannot be scored.",
)
@click.option("--rejects", type=click.Path(), help="File for the rows skipped, as JSONL.  [default: OUT.rejects.jsonl]")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Score in this process, or on Ray: here, or on the cluster that RAY_ADDRESS names.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Ray actors.  [default: as many as fit]")
@click.option(
    "--cache-size", type=click.IntRange(min=0), default=50_000, show_default=True, help="Texts whose vectors are kept."
)
@options.run_json_option
@options.blank_option
@options.head_option
@options.execution_options
def score(
    matcher: str,
    table: str,
    a_column: str | None,
    b_column: str | None,
    out: str,
    overwrite: bool,
    resume: bool,
    file_format: TableFormat | None,
    delimiter: str | None,
    header: bool,
    encoding: str,
    score_column: str,
    match_column: str,
    max_row_length: int,
    float_format: str,
    escape_formulas: bool,
    score_cutoff: float | None,
    only_matches: bool,
    threshold: float | None,
    familiarity: bool,
    explain: bool,
    on_error: str,
    rejects: str | None,
    engine: str,
    workers: int | None,
    cache_size: int,
    as_json: bool,
    on_blank: Literal["zero", "score"],
    head: bool,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Score the pairs of texts in TABLE with MATCHER, a directory made by 'flipkd export'.

    TABLE is a CSV, JSONL or Parquet file, gzipped or not, or a folder of them; - reads standard input. The output
    contains its rows in their order, with all their columns unchanged and two more: the probability in [0, 1] that the
    two texts mean the same, and 1 if it reaches the threshold, else 0. Tables of any length are scored in
    constant memory, and repeated texts are encoded once.

    A run that was stopped, even by a power cut, continues with --resume and writes the same output.
    """
    from flipkd_sdk.cli.scoring.loop import Selection
    from flipkd_sdk.cli.scoring.score_file import OutputOptions, score_file
    from flipkd_sdk.cli.tables.open import TableOptions
    from flipkd_sdk.cli.tables.sources import TextColumn

    options.refuse_swapped(matcher, table, "score")
    if score_column == match_column:
        raise click.UsageError(f"--score-column and --match-column are both {score_column!r}; name them differently")
    if resume and STANDARD_STREAM in (out, table):
        raise click.UsageError("--resume needs a table and an output that are files")
    options.check_run(out, resume=resume, skip=on_error == "skip", rejects=rejects, as_json=as_json)
    if workers is not None and engine == "local":
        raise click.UsageError("--workers is for --engine ray; use --threads")
    reading = TableOptions(
        texts=(
            TextColumn(a_column or ("text_a" if header else "1"), "--a-column"),
            TextColumn(b_column or ("text_b" if header else "2"), "--b-column"),
        ),
        file_format=file_format,
        delimiter=delimiter,
        encoding=encoding,
        header=header,
        max_row_length=max_row_length,
    )
    added = [Column(score_column, "score", "--score-column"), Column(match_column, "flag", "--match-column")]
    added += [Column("familiarity", "score")] if familiarity else []
    added += [Column("explanation", "text")] if explain else []
    writing = OutputOptions(
        added=added,
        form=TextFormat(float_format, escape_formulas),
        selection=Selection(score_cutoff, only_matches, threshold, familiarity),
        overwrite=overwrite,
        resume=resume,
        skip=on_error == "skip",
        explain=explain,
        as_json=as_json,
    )
    with ExitStack() as stack:
        load = {
            "device": device,
            "precision": precision,
            "cache_size": cache_size,
            "on_blank": on_blank,
            "head": head,
        }
        starting = (
            _ray_engine(matcher, {**load, "threads": threads or 1}, workers)
            if engine == "ray"
            else _local_engine(matcher, {**load, "threads": threads})
        )
        # The engine starts after the first table is open, so that a mistyped column is reported at once.
        start_engine = functools.cache(lambda: stack.enter_context(starting))
        figures = [
            score_file(source, target, start_engine, reading, writing, rejects=rejects or f"{target}.rejects.jsonl")
            for source, target in _tables(table, out, rejects)
        ]
    if as_json:
        print_json(figures if Path(table).is_dir() else figures[0])


def _tables(table: str, out: str, rejects: str | None) -> list[tuple[str, str]]:
    """Return the files to read and to write."""
    if table == STANDARD_STREAM or not Path(table).is_dir():
        return [(table, out)]
    if out == STANDARD_STREAM or rejects is not None:
        raise click.UsageError(f"{table} is a folder: name a folder with --out, and leave out --rejects")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"{out}: a file, but {table} is a folder; name a folder")
    if folder.resolve().is_relative_to(Path(table).resolve()):
        raise OutputExistsError(f"{out}: a folder in the folder that is read; name a folder elsewhere")
    files = sorted(path for path in Path(table).rglob("*") if path.name.lower().endswith(TABLE_SUFFIXES))
    if not files:
        raise InvalidPairsError(f"{table}: no file in it ends with one of {', '.join(TABLE_SUFFIXES)}")
    targets = [folder / path.relative_to(table) for path in files]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    return [(str(path), str(target)) for path, target in zip(files, targets, strict=True)]


@contextmanager
def _local_engine(matcher: str, load: Mapping[str, Any]) -> Iterator[Engine]:
    from flipkd_sdk.cli.scoring.local_engine import LocalEngine
    from flipkd_sdk.runtimes.matcher import Matcher

    with Matcher.load(matcher, **load) as opened:
        yield LocalEngine(opened, on_blank=load["on_blank"])


@contextmanager
def _ray_engine(matcher: str, load: Mapping[str, Any], workers: int | None) -> Iterator[Engine]:
    from flipkd_sdk.cli.scoring.ray_engine import WorkerOptions, ray_engine

    # The workers may run in another folder, or on another machine where the matcher has the same path.
    with ray_engine(str(Path(matcher).resolve()), WorkerOptions(**load), workers=workers) as opened:
        yield opened
