"""Opening of tables of any format for reading and writing."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli.tables.columns import Column, ColumnAdder, TextFormat, TextSink, layout_for
from flipkd_sdk.cli.tables.files import open_input, open_output, table_format
from flipkd_sdk.cli.tables.sources import RejectRow, Sink, Source, TextColumn, TextSource
from flipkd_sdk.tables.reader import read_records
from flipkd_sdk.tables.sniffing import delimiter_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from flipkd_sdk.cli.tables.files import TableFormat
    from flipkd_sdk.tables.reader import BadRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """Options for reading a table of pairs."""

    texts: tuple[TextColumn, TextColumn]
    """Columns of the two texts."""
    file_format: TableFormat | None
    """None for the format that the suffix names."""
    delimiter: str | None
    """None to detect it in the first records."""
    encoding: str
    header: bool
    max_row_length: int


def one_text_column(
    column: str | None,
    option: str,
    *,
    file_format: TableFormat | None,
    delimiter: str | None,
    encoding: str,
    header: bool,
    max_row_length: int,
) -> TableOptions:
    """Return options for reading a table of single texts.

    Args:
        column: name or position of the column; None for ``text``, or the first one without a header.
        option: option that sets the column, for messages.
        file_format: as in `TableOptions`, as are the others.
        delimiter: character between the fields.
        encoding: of the text.
        header: read the first record as names.
        max_row_length: longest row.
    """
    text = TextColumn(column or ("text" if header else "1"), option)
    return TableOptions(
        texts=(text, text),
        file_format=file_format,
        delimiter=delimiter,
        encoding=encoding,
        header=header,
        max_row_length=max_row_length,
    )


@contextmanager
def rejects_file(path: str, *, overwrite: bool) -> Iterator[RejectRow]:
    """Open a file for the rows that cannot be scored, one JSON object each; print their number at the end."""
    count = 0
    with open_output(path, overwrite=overwrite) as stream:

        def reject(bad: BadRecord) -> None:
            nonlocal count
            count += 1
            line = {"line": bad.line, "reason": bad.reason, "row": bad.raw}
            # JSON in ASCII can also represent undecodable bytes.
            stream.write(json.dumps(line).encode() + b"\n")

        yield reject
    if count:
        click.echo(f"flipkd: warning: rows skipped: {count:,}; {path} contains them and the reasons", err=True)


@contextmanager
def open_source(
    table: str, reading: TableOptions, added: Sequence[Column], reject: RejectRow
) -> Iterator[tuple[Source, str]]:
    """Open a table of pairs; yields it with the encoding of its text.

    Args:
        table: the file to read, or ``-``.
        reading: options for reading it.
        added: columns that it must not have.
        reject: receives rows that cannot be scored.

    Raises:
        InvalidPairsError: the table or a column of it cannot be used.
    """
    chosen = reading.file_format or table_format(table)
    if chosen == "parquet":
        from flipkd_sdk.cli.tables.parquet import ParquetSource

        limit = reading.max_row_length
        yield ParquetSource(table, reading.texts, added=added, reject=reject, max_row_length=limit), "utf-8"
        return
    with open_input(table) as data:
        records = read_records(
            data.stream,
            data.source,
            file_format=chosen,
            delimiter=reading.delimiter or delimiter_of(table, data.stream.peek(), reading.encoding),
            encoding=reading.encoding,
            header=reading.header,
            on_bad_record=reject,
            max_row_length=reading.max_row_length,
        )
        source = TextSource(records, reading.texts, added=added, reject=reject, total=data.size, position=data.position)
        yield source, reading.encoding


@contextmanager
def open_sink(
    stream: BinaryIO, out: str, source: Source, encoding: str, added: Sequence[Column], form: TextFormat
) -> Iterator[Sink]:
    """Open a sink of rows with added columns, in the format of the output's suffix, else in the table's.

    Args:
        stream: receives the bytes; the caller closes it.
        out: the name of the output.
        source: the table.
        encoding: of the table.
        added: the columns.
        form: form of values in text.

    Raises:
        InvalidPairsError: the format cannot represent the table's columns.
    """
    sink = _sink(stream, out, source, encoding, added, form)
    try:
        yield sink
    except BaseException:
        sink.abandon()
        raise
    sink.close()


def _sink(stream: BinaryIO, out: str, source: Source, encoding: str, added: Sequence[Column], form: TextFormat) -> Sink:
    layout = layout_for(out, source.head.layout)
    own = source.head.layout.format
    if layout.format == "parquet":
        from flipkd_sdk.cli.tables.parquet import ParquetSink, ParquetSource

        schema = source.schema if isinstance(source, ParquetSource) else None
        return ParquetSink(stream, source.head, schema, added=added)
    adder = ColumnAdder(source.head, layout, added=added, form=form)
    sink = TextSink(stream, adder, encoding if layout.format == own else "utf-8")
    if own == "parquet":
        from flipkd_sdk.cli.tables.parquet import ParquetAsText

        return ParquetAsText(sink, source.head.source)
    return sink
