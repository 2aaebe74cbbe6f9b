"""``flipkd dedupe``: group the rows of a table whose texts mean the same."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.tables.columns import TextFormat

if TYPE_CHECKING:
    from flipkd_sdk.cli.tables.files import TableFormat
    from flipkd_sdk.runtimes.linkage.clustering import Linkage
    from flipkd_sdk.runtimes.linkage.proposals import Search


@click.command(
    epilog=options.examples(
        "flipkd dedupe faq-matcher requests.csv --column text --out groups.csv",
        "flipkd dedupe faq-matcher requests.csv --out groups.csv --threshold 0.9 --threshold 0.95 --threshold 0.98",
        "flipkd dedupe faq-matcher requests.parquet --out distinct.parquet --only-canonical",
        "flipkd dedupe faq-matcher requests.csv --out groups.csv --report groups.html",
    )
)
@options.matcher_argument
@click.argument("table", type=click.Path())
@click.option("--column", metavar="COLUMN", help="Column of the texts: name or position.  [default: text, or 1]")
@options.run_options
@click.option(
    "--threshold",
    "thresholds",
    type=click.FloatRange(0, 1),
    multiple=True,
    callback=options.all_finite,
    metavar="SCORE",
    help="Least score of a group, from 0 to 1; repeated, further columns contain the groups of the other ones.  "
    "[default: the matcher's]",
)
@click.option(
    "--linkage",
    type=click.Choice(["complete", "average", "components"]),
    default="complete",
    show_default=True,
    help="Score of two groups: the lowest, the mean, or the highest of their pairs.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Nearest texts of each text that are scored.",
)
@click.option("--only-canonical", is_flag=True, help="Write only one row of each group, the canonical one.")
@click.option("--report", type=click.Path(), help="Page of the groups to write, as HTML.")
@click.option("--group-column", default="group", show_default=True, help="Name of the column of groups.")
@click.option("--score-column", default="score", show_default=True, help="Name of the column of scores.")
@options.proposals_option
@options.table_options
@options.output_text_options
@options.search_with_option
@options.engine_options
@options.blank_option
@options.execution_options
def dedupe(
    matcher: str,
    table: str,
    column: str | None,
    out: str,
    overwrite: bool,
    resume: bool,
    on_error: str,
    rejects: str | None,
    as_json: bool,
    thresholds: tuple[float, ...],
    linkage: Linkage,
    neighbours: int,
    only_canonical: bool,
    report: str | None,
    group_column: str,
    score_column: str,
    search: Search,
    file_format: TableFormat | None,
    delimiter: str | None,
    header: bool,
    encoding: str,
    max_row_length: int,
    float_format: str,
    escape_formulas: bool,
    search_with: str | None,
    engine: str,
    workers: int | None,
    on_blank: Literal["zero", "score"],
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Group the rows of TABLE whose texts mean the same, with MATCHER, a directory made by 'flipkd export'.

    TABLE is a CSV, JSONL or Parquet file. The output contains its rows in their order, with all their columns unchanged
    and four more: the group, which is the number of its canonical row, from 1; the group's number of rows; 1 for the
    canonical row; and the score of the row with that one. Equal texts are in one group.

    A run that was stopped, even by a power cut, continues with --resume.
    """
    from flipkd_sdk.cli.linkage.dedupe_table import DedupeOptions, dedupe_table
    from flipkd_sdk.cli.linkage.engines import check_engine, open_engine
    from flipkd_sdk.cli.linkage.run import RunOptions
    from flipkd_sdk.cli.tables.open import one_text_column

    options.refuse_swapped(matcher, table, "dedupe")
    options.check_run(out, resume=resume, skip=on_error == "skip", rejects=rejects, as_json=as_json)
    check_engine(engine, workers, search_with)
    if len(set(thresholds)) < len(thresholds):
        raise click.UsageError("--threshold is given twice with the same value")
    if report is not None and Path(report).resolve() == Path(out).resolve():
        raise click.UsageError("--out and --report name the same file")
    dedupe_table(
        table,
        functools.partial(
            open_engine,
            matcher,
            engine=engine,
            workers=workers,
            device=device,
            precision=precision,
            threads=threads,
            on_blank=on_blank,
            search_with=search_with,
        ),
        one_text_column(
            column,
            "--column",
            file_format=file_format,
            delimiter=delimiter,
            encoding=encoding,
            header=header,
            max_row_length=max_row_length,
        ),
        DedupeOptions(
            thresholds=thresholds,
            linkage=linkage,
            neighbours=neighbours,
            search=search,
            only_canonical=only_canonical,
            group_column=group_column,
            score_column=score_column,
            report=report,
        ),
        RunOptions(
            out=out,
            form=TextFormat(float_format, escape_formulas),
            overwrite=overwrite,
            resume=resume,
            skip=on_error == "skip",
            rejects=rejects,
            as_json=as_json,
        ),
    )
