"""``flipkd score``: a table of pairs in, the same table with a score and a match for each row out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import row_progress
from flipkd_sdk.cli.tables import ColumnAdder, check_output, layout_for, open_input, open_output
from flipkd_sdk.records import Format, Record, delimiter_of, format_of, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flipkd_sdk.records import Records

_CHUNK_ROWS = 8192


@click.command()
@options.matcher_argument
@click.argument("table", type=click.Path(allow_dash=True))
@options.text_column_options
@click.option("--out", type=click.Path(allow_dash=True), default="-", help="File to write.  [default: standard output]")
@click.option("--overwrite", is_flag=True, help="Replace the output file if there is one.")
@click.option(
    "--format", "file_format", type=click.Choice(["csv", "jsonl"]), help="Of TABLE.  [default: by its suffix]"
)
@click.option(
    "--delimiter", callback=options.delimiter, help="Between the fields of a CSV.  [default: comma; .tsv: tab]"
)
@click.option("--encoding", callback=options.encoding, default="utf-8", show_default=True, help="Of TABLE.")
@click.option("--score-column", default="score", show_default=True, help="Name of the column of match probabilities.")
@click.option("--match-column", default="match", show_default=True, help="Name of the column that says 1 for a match.")
@click.option(
    "--cache-size", type=click.IntRange(min=0), default=50_000, show_default=True, help="Texts whose vectors are kept."
)
@options.execution_options
def score(
    matcher: str,
    table: str,
    a_column: str,
    b_column: str,
    out: str,
    overwrite: bool,
    file_format: Format | None,
    delimiter: str | None,
    encoding: str,
    score_column: str,
    match_column: str,
    cache_size: int,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    r"""Score the pairs of texts in TABLE with MATCHER, a directory made by 'flipkd export'.

    TABLE is a CSV file with a header or a JSONL file; - reads standard input. The rows come out in their order and
    with all their columns as they are, plus two: the probability in [0, 1] that the two texts mean the same, and 1
    where it reaches the matcher's threshold, else 0. Tables of any length are scored in constant memory, and repeated
    texts are encoded once.

    \b
    flipkd score faq-matcher pairs.csv --out scored.csv
    cat pairs.jsonl | flipkd score faq-matcher - --format jsonl --a-column question --b-column faq
    """
    if score_column == match_column:
        raise click.UsageError(f"--score-column and --match-column are both {score_column!r}; name them differently")
    check_output(out, overwrite=overwrite)
    with open_input(table) as (stream, source, size):
        records = read_records(
            stream,
            source,
            file_format=file_format or format_of(table),
            delimiter=delimiter or delimiter_of(table),
            encoding=encoding,
        )
        names = records.column(a_column), records.column(b_column)
        layout = layout_for(out, records)
        adder = ColumnAdder(records, layout, score=score_column, match=match_column)
        out_encoding = encoding if layout.format == records.format else "utf-8"

        from flipkd_sdk.runtimes.matcher import Matcher

        with (
            Matcher.load(matcher, device=device, precision=precision, threads=threads, cache_size=cache_size) as model,
            open_output(out, encoding=out_encoding, overwrite=overwrite) as output,
            row_progress(size) as advance,
        ):
            output.write(adder.header())
            for chunk, pairs in _chunks(records, *names):
                for record, probability in zip(chunk, model.score_pairs(pairs).tolist(), strict=True):
                    output.write(adder.row(record, probability, probability >= model.threshold))
                advance(len(chunk), stream.tell() if size else 0)


def _chunks(records: Records, a: str, b: str) -> Iterator[tuple[list[Record], list[tuple[str, str]]]]:
    rows = iter(records.rows)
    while chunk := list(itertools.islice(rows, _CHUNK_ROWS)):
        yield chunk, [(records.text(record, a), records.text(record, b)) for record in chunk]
