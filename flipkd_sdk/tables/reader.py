"""Tables of user data, read strictly and one record at a time: CSV (RFC 4180) and JSONL, gzipped or not.

Each record keeps the line that it starts on, for messages, and its text as it stands in the file, so that a command can
hand the user's own columns back byte for byte. Memory is bounded by one record.
"""

from __future__ import annotations

import csv
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.decoding import BYTE_ORDER_MARK, BadLineError, Lines, PlainStream, open_binary
from flipkd_sdk.tables.sniffing import Format, delimiter_of, format_of

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a table."""

    line: int
    """1-based number of the line in the file on which the record starts."""
    raw: str
    """The record as it stands in the file, its line end included."""
    cells: Mapping[str, object]
    """Values by column: strings in CSV, any JSON value in JSONL."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """Lines that make no row."""

    line: int
    """1-based number of the line on which they start."""
    raw: str
    """The lines as they stand in the file; bytes that are not text are half surrogate pairs, U+DC80 to U+DCFF."""
    reason: str


@dataclass(frozen=True, slots=True)
class Records:
    """A table being read: what is known of its columns, and the records still to come."""

    source: str
    """What messages call the table: its path, or ``standard input``."""
    format: Format
    delimiter: str
    """Separates the fields of a CSV file."""
    columns: tuple[str, ...]
    """Names in the header of a CSV file, without one ``"1"``, ``"2"``, …; of JSONL, the keys of the first object."""
    header: str
    """The header as it stands in the file, with byte order mark and line end; empty for JSONL and without one."""
    rows: Iterator[Record]

    def column(self, wanted: str) -> str:
        """The name of a column given by name or, in CSV, by 1-based position.

        Raises:
            InvalidPairsError: there is no such column, or its name stands twice in the header.
        """
        if self.format == "jsonl":
            return wanted  # Objects need not have the same keys; `text` finds out record by record.
        return find_column(wanted, self.columns, self.source)

    def value(self, record: Record, column: str) -> object:
        """A record's value in a column.

        Raises:
            InvalidPairsError: a JSONL object lacks the key.
        """
        try:
            return record.cells[column]
        except KeyError:
            there = _listed(tuple(record.cells))
            raise InvalidPairsError(
                f"{self.source}:{record.line}: no key {column!r}; the object has: {there}"
            ) from None

    def text(self, record: Record, column: str) -> str:
        """A record's text in a column, exactly as it is; empty text is legal.

        Raises:
            InvalidPairsError: a JSONL object lacks the key or holds something else than a text.
        """
        value = self.value(record, column)
        if not isinstance(value, str):
            found = json.dumps(value)[:60]
            raise InvalidPairsError(
                f"{self.source}:{record.line}: column {column!r}: expected a text in quotation marks, found {found}"
            )
        # JSON escapes can spell both; neither is text that a tokenizer or a CSV file can hold.
        if "\0" in value or (not value.isascii() and _SURROGATE.search(value)):
            raise InvalidPairsError(
                f"{self.source}:{record.line}: column {column!r}: the text holds a NUL or half of a surrogate pair; "
                "clean it"
            )
        return value


@contextmanager
def open_records(
    path: str | Path, *, file_format: Format | None = None, delimiter: str | None = None, encoding: str = "utf-8"
) -> Iterator[Records]:
    """Open a table for reading; it may be gzipped, whatever it is called.

    Args:
        path: the file.
        file_format: by default JSONL for ``.jsonl`` and ``.ndjson``, CSV for everything else.
        delimiter: of CSV; by default a tab for ``.tsv``, else the one of comma, semicolon, tab and bar that the first
            records tell.
        encoding: of the file; a byte order mark is skipped.

    Raises:
        InvalidPairsError: the file is missing, unreadable, empty or malformed; the message names the line.
    """
    with open_binary(path) as stream:
        plain = PlainStream(stream, str(path))
        chosen = file_format or format_of(path)
        separator = delimiter or delimiter_of(path, plain.peek(), encoding)
        yield read_records(plain, str(path), file_format=chosen, delimiter=separator, encoding=encoding)


def find_column(wanted: str, columns: tuple[str, ...], source: str) -> str:
    """The name of a column given by name or 1-based position.

    Raises:
        InvalidPairsError: there is no such column, or its name stands twice.
    """
    name = wanted
    if name not in columns and wanted.isdecimal() and 1 <= int(wanted) <= len(columns):
        name = columns[int(wanted) - 1]
    if name not in columns:
        raise InvalidPairsError(f"{source}: no column {wanted!r}; the header has: {_listed(columns)}")
    if columns.count(name) > 1:
        raise InvalidPairsError(f"{source}: column {name!r} stands twice in the header; rename one of them")
    return name


def read_records(
    stream: io.BufferedIOBase,
    source: str,
    *,
    file_format: Format = "csv",
    delimiter: str = ",",
    encoding: str = "utf-8",
    header: bool = True,
    on_bad_record: Callable[[BadRecord], None] | None = None,
) -> Records:
    """Read a table from a binary stream, which stays the caller's to close.

    Args:
        stream: where the table begins.
        source: what messages call it.
        file_format: CSV or JSONL.
        delimiter: of CSV.
        encoding: of the text; a byte order mark is skipped.
        header: whether the first record of CSV holds the names of the columns.
        on_bad_record: takes what makes no row, after which reading goes on; by default it is an error.

    Raises:
        InvalidPairsError: the table is empty or malformed; the message names the line.
    """
    lines = Lines(stream, source, encoding)
    if file_format == "jsonl":
        return _json_records(lines, on_bad_record or _refuse)
    return _csv_records(lines, delimiter, header=header, on_bad_record=on_bad_record or _refuse)


def _refuse(bad: BadRecord) -> None:
    raise InvalidPairsError(bad.reason)


def _csv_records(lines: Lines, delimiter: str, *, header: bool, on_bad_record: Callable[[BadRecord], None]) -> Records:
    # What stands in the header cannot be left out.
    first = next(_csv_fields(lines, delimiter, _refuse), None)
    if first is None:
        missing = "a header line with the names of the columns" if header else "at least one record"
        raise InvalidPairsError(f"{lines.source}: empty; expected {missing}")
    columns = tuple(first[2]) if header else tuple(str(i + 1) for i in range(len(first[2])))

    def rows() -> Iterator[Record]:
        if not header:
            line, raw, values = first
            yield Record(line, raw, dict(zip(columns, values, strict=True)))
        for line, raw, values in _csv_fields(lines, delimiter, on_bad_record):
            if len(values) == len(columns):
                yield Record(line, raw, dict(zip(columns, values, strict=True)))
                continue
            reason = (
                f"{lines.source}:{line}: {len(values)} fields, but the {'header' if header else 'first record'} has "
                f"{len(columns)}; check the quotation marks and the delimiter"
            )
            on_bad_record(BadRecord(line, raw, reason))

    mark = BYTE_ORDER_MARK if lines.marked else ""
    return Records(lines.source, "csv", delimiter, columns, mark + first[1] if header else "", rows())


def _csv_fields(
    lines: Lines, delimiter: str, on_bad_record: Callable[[BadRecord], None]
) -> Iterator[tuple[int, str, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = lines.number + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except BadLineError as error:
            on_bad_record(BadRecord(start, lines.take(), str(error)))
            continue
        except csv.Error as error:
            reason = f"{lines.source}:{start}: malformed CSV ({error}); check the quotation marks of this record"
            on_bad_record(BadRecord(start, lines.take(), reason))
            continue
        raw = lines.take()
        if values:  # A blank line is no record.
            yield start, raw, values


def _json_records(lines: Lines, on_bad_record: Callable[[BadRecord], None]) -> Records:
    rows = _json_rows(lines, on_bad_record)
    first = next(rows, None)
    if first is None:
        return Records(lines.source, "jsonl", "", (), "", rows)

    def with_first() -> Iterator[Record]:
        yield first
        yield from rows

    return Records(lines.source, "jsonl", "", tuple(first.cells), "", with_first())


def _json_rows(lines: Lines, on_bad_record: Callable[[BadRecord], None]) -> Iterator[Record]:
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except BadLineError as error:
            on_bad_record(BadRecord(lines.number, lines.take(), str(error)))
            continue
        raw = lines.take()
        if not line.strip():
            continue
        where = f"{lines.source}:{lines.number}"
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            on_bad_record(BadRecord(lines.number, raw, f"{where}: not valid JSON ({error})"))
            continue
        if isinstance(cells, dict):
            yield Record(lines.number, raw, cells)
        else:
            on_bad_record(BadRecord(lines.number, raw, f"{where}: expected a JSON object with a key for each column"))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names)) or "none"
