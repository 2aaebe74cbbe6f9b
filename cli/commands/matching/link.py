"""``flipkd link``: find the rows of two tables that match."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.tables.columns import TextFormat

if TYPE_CHECKING:
    from flipkd_sdk.cli.tables.files import TableFormat
    from flipkd_sdk.runtimes.linkage.proposals import Search


@click.command(
    epilog=options.examples(
        "flipkd link faq-matcher questions.csv faq.csv --a-column question --b-column title --out matches.csv",
        "flipkd link faq-matcher old.csv new.csv --one-to-one --unmatched --b-columns id --out matches.csv",
    )
)
@options.matcher_argument
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option("--a-column", metavar="COLUMN", help="Column of A's texts: name or position.  [default: text, or 1]")
@click.option("--b-column", metavar="COLUMN", help="Column of B's texts: name or position.  [default: text, or 1]")
@options.run_options
@options.threshold_option
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="Most matches of a row of A.")
@click.option("--one-to-one", is_flag=True, help="Put each row of A and of B into one match at most.")
@click.option("--unmatched", is_flag=True, help="Write rows of A without a match too, with empty columns.")
@click.option(
    "--neighbours",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Nearest texts of each text of A that are scored.",
)
@click.option(
    "--b-columns", multiple=True, metavar="COLUMN", help="Column of B to write; may be repeated.  [default: all]"
)
@click.option("--b-prefix", default="b_", show_default=True, help="Beginning of the names of B's columns.")
@click.option("--score-column", default="score", show_default=True, help="Name of the column of scores.")
@options.proposals_option
@options.table_options
@options.output_text_options
@options.search_with_option
@options.engine_options
@options.blank_option
@options.execution_options
def link(
    matcher: str,
    a: str,
    b: str,
    a_column: str | None,
    b_column: str | None,
    out: str,
    overwrite: bool,
    resume: bool,
    on_error: str,
    rejects: str | None,
    as_json: bool,
    threshold: float | None,
    top_k: int,
    one_to_one: bool,
    unmatched: bool,
    neighbours: int,
    b_columns: tuple[str, ...],
    b_prefix: str,
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
    """Find the rows of the tables A and B that match, with MATCHER, a directory made by 'flipkd export'.

    A and B are CSV, JSONL or Parquet files. The output repeats a row of A for each of its matches, followed by the
    numbers of both rows from 1, the columns of the row of B, and the score. The texts of both are encoded once.

    A run that was stopped, even by a power cut, continues with --resume.
    """
    from flipkd_sdk.cli.linkage.engines import check_engine, open_engine
    from flipkd_sdk.cli.linkage.link_tables import LinkOptions, link_tables
    from flipkd_sdk.cli.linkage.run import RunOptions
    from flipkd_sdk.cli.tables.open import one_text_column

    options.refuse_swapped(matcher, a, "link")
    options.check_run(out, resume=resume, skip=on_error == "skip", rejects=rejects, as_json=as_json)
    check_engine(engine, workers, search_with)
    if one_to_one and top_k > 1:
        raise click.UsageError("--one-to-one gives a row one match; leave out --top-k")
    if on_error == "skip" and rejects is not None:
        raise click.UsageError("--rejects names one file, but two tables are read; leave it out")
    reading = functools.partial(
        one_text_column,
        file_format=file_format,
        delimiter=delimiter,
        encoding=encoding,
        header=header,
        max_row_length=max_row_length,
    )
    readings = reading(a_column, "--a-column"), reading(b_column, "--b-column")
    if readings[0].texts[0].wanted == readings[1].texts[0].wanted and _are_one(a, b):
        raise click.UsageError(f"{a} and {b} are the same file; to find equal rows of one table use 'flipkd dedupe'")
    link_tables(
        a,
        b,
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
        readings,
        LinkOptions(
            threshold=threshold,
            top_k=top_k,
            one_to_one=one_to_one,
            neighbours=neighbours,
            search=search,
            unmatched=unmatched,
            b_columns=b_columns,
            b_prefix=b_prefix,
            score_column=score_column,
        ),
        RunOptions(
            out=out,
            form=TextFormat(float_format, escape_formulas),
            overwrite=overwrite,
            resume=resume,
            skip=on_error == "skip",
            rejects=None,
            as_json=as_json,
        ),
    )


def _are_one(a: str, b: str) -> bool:
    return Path(a).is_file() and Path(b).is_file() and Path(a).samefile(b)
