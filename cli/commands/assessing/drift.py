"""``flipkd drift``: compare a table with the profile of the domain that a matcher was made for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import columns, print_json

if TYPE_CHECKING:
    from flipkd_sdk.cli.evaluation.drift import DriftCheck
    from flipkd_sdk.cli.tables.files import TableFormat
    from flipkd_sdk.cli.tables.sources import TextColumn


@click.command(
    epilog=options.examples(
        "flipkd drift faq-matcher today.csv",
        "flipkd drift faq-matcher scored.parquet --limit 0.25 --report drift.html",
        "flipkd drift faq-matcher questions.jsonl --text-column question --json",
    )
)
@options.matcher_argument
@click.argument("table", type=click.Path(allow_dash=True))
@click.option(
    "--text-column", metavar="COLUMN", help="Column of texts: name or position.  [default: text, if there are no pairs]"
)
@options.text_column_options
@options.table_options
@click.option(
    "--rows", type=click.IntRange(min=1), default=20_000, show_default=True, help="Most rows, drawn at random."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw.")
@click.option(
    "--limit",
    type=click.FloatRange(0, min_open=True),
    callback=options.finite,
    metavar="PSI",
    help="Fail if a measure has a higher index, such as 0.25.",
)
@click.option("--report", type=click.Path(), help="Write an HTML report too.")
@click.option("--overwrite", is_flag=True, help="Replace the report if there is one.")
@options.json_option
@options.execution_options
@click.pass_context
def drift(
    ctx: click.Context,
    matcher: str,
    table: str,
    text_column: str | None,
    a_column: str | None,
    b_column: str | None,
    file_format: TableFormat | None,
    delimiter: str | None,
    header: bool,
    encoding: str,
    max_row_length: int,
    rows: int,
    seed: int,
    limit: float | None,
    report: str | None,
    overwrite: bool,
    as_json: bool,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Compare TABLE with the texts and pairs that MATCHER, a directory made by 'flipkd export', was measured on.

    TABLE is a CSV, JSONL or Parquet file of pairs or of texts, without labels. Four measures are compared with those of
    texts held out from training: the scores of pairs, the texts' lengths, their share of pieces that no training text
    contains, and their similarity to the training texts. Each has a population stability index (PSI) and a share
    outside the range at export. Below 0.1 a measure is called stable, above 0.25 it has shifted.

    With --limit the exit code is 1 if the index of a measure is higher, and higher than chance explains.
    """
    options.refuse_swapped(matcher, table, "drift")
    from flipkd_sdk.cli.evaluation.drift import check_drift, read_sample
    from flipkd_sdk.cli.tables.files import check_output, open_output
    from flipkd_sdk.cli.tables.open import TableOptions
    from flipkd_sdk.evaluation.drift import STRONG
    from flipkd_sdk.runtimes.matcher import Matcher

    if report is not None:
        check_output(report, overwrite=overwrite)
    reading = TableOptions(
        texts=_columns(text_column, a_column, b_column, header=header),
        file_format=file_format,
        delimiter=delimiter,
        encoding=encoding,
        header=header,
        max_row_length=max_row_length,
    )
    sample = read_sample(table, reading, most=rows, seed=seed)
    with Matcher.load(matcher, device=device, precision=precision, threads=threads, on_truncate="ignore") as model:
        found = check_drift(model, Path(matcher), sample, limit=STRONG if limit is None else limit)
    above = [] if limit is None else found.above(limit)
    if report is not None:
        from flipkd_sdk.cli.evaluation.drift_report import drift_html

        with open_output(report, overwrite=overwrite) as stream:
            stream.write(drift_html(found, limit).encode())
    if as_json:
        content = {**found.to_dict(), "limit": limit, "above_limit": [measured.name for measured in above]}
        print_json(content)
    else:
        click.echo(_text(found))
    if above:
        figures = ", ".join(f"{measured.name} {measured.drift.psi:.3f}" for measured in above)
        click.echo(f"flipkd: error: {table}: stability index above {limit:g}: {figures}", err=True)
        ctx.exit(1)


def _columns(text: str | None, a: str | None, b: str | None, *, header: bool) -> tuple[TextColumn, TextColumn]:
    """Return the columns of a table of texts, twice the same, or of pairs."""
    from flipkd_sdk.cli.evaluation.drift import FirstColumn
    from flipkd_sdk.cli.tables.sources import TextColumn

    pair = ("text_a", "text_b") if header else ("1", "2")
    if text is not None and (a is not None or b is not None):
        raise click.UsageError("--text-column is for texts, --a-column and --b-column are for pairs; name one kind")
    if a is not None or b is not None:
        return TextColumn(a or pair[0], "--a-column"), TextColumn(b or pair[1], "--b-column")
    if text is not None or not header:
        chosen = TextColumn(text or "1", "--text-column")
        return chosen, chosen
    return FirstColumn("text_a", "--a-column"), FirstColumn("text_b", "--b-column")


def _text(found: DriftCheck) -> str:
    from flipkd_sdk.cli.evaluation.drift import NAMES

    sample = found.sample
    drawn = "" if len(sample.items) == sample.rows else f", {len(sample.items):,} of them drawn at random"
    lines = [f"{sample.table}: {sample.rows:,} rows{drawn}; profile of {found.profile}; {found.ran}", ""]
    head = ("measure", "values", "PSI", "by chance", "outside", "")
    rows = [
        (
            NAMES[measured.name],
            f"{measured.drift.size:,}",
            f"{measured.drift.psi:.3f}",
            f"{measured.drift.chance:.3f}",
            f"{measured.drift.outside:.1%}",
            measured.verdict,
        )
        for measured in found.measures
    ]
    lines.append(columns([head, *rows], indent="  "))
    if found.blank_texts:
        lines += ["", f"blank texts, left out: {found.blank_texts:,}"]
    return "\n".join(lines)
