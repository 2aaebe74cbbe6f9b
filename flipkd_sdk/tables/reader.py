"""Strict reader of tables, one record at a time: CSV (RFC 4180) and JSONL, gzipped or not.

Each record keeps its line number, for messages, and its text in the file, so that a command can return the user's own
columns byte for byte. Memory is bounded by one record.
"""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.decoding import (
    BYTE_ORDER_MARK,
    MAX_ROW_LENGTH,
    SURROGATE,
    BadLineError,
    Lines,
    PlainStream,
    open_binary,
)
from flipkd_sdk.tables.sniffing import Format, delimiter_line, delimiter_of, format_of

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

MAX_NESTING = 200
"""Levels of lists and objects in a JSONL value. Python cannot write all that it can read."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a table."""

    line: int
    """1-based number of the line in the file on which the record starts."""
    raw: str
    """Text of the record in the file, its line end included."""
    cells: Mapping[str, object]
    """Values by column: strings in CSV, any JSON value in JSONL."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """Lines that are no valid row."""

    line: int
    """1-based number of the first of them."""
    raw: str
    """Their text in the file; undecodable bytes are half surrogate pairs, U+DC80 to U+DCFF."""
    reason: str


@dataclass(frozen=True, slots=True)
class Records:
    """Table being read: its columns, and the records that follow."""

    source: str
    """Name of the table in messages: its path, or ``standard input``."""
    format: Format
    delimiter: str
    """Separator of the fields of a CSV file."""
    columns: tuple[str, ...]
    """Names in the header of a CSV file, without a header ``"1"``, ``"2"``, …; in JSONL the first object's keys."""
    header: str
    """Text of the header in the file, with byte order mark, ``sep=`` line and line end; empty if there is none."""
    rows: Iterator[Record]
    lines: Lines
    """Lines that the rows are read from."""

    def column(self, wanted: str) -> str:
        """Return the name of a column given by name or, in CSV, by 1-based position.

        Raises:
            InvalidPairsError: the column is missing, or the header contains its name twice.
        """
        if self.format == "jsonl":
            return wanted  # Objects need not have the same keys, so `text` checks each record.
        return find_column(wanted, self.columns, self.source)

    def value(self, record: Record, column: str) -> object:
        """Return a record's value in a column.

        Raises:
            InvalidPairsError: a JSONL object lacks the key.
        """
        try:
            return record.cells[column]
        except KeyError:
            keys = _listed(tuple(record.cells))
            raise InvalidPairsError(f"{self.source}:{record.line}: no key {column!r}; the object has: {keys}") from None

    def text(self, record: Record, column: str) -> str:
        """Return a record's text in a column, unchanged; empty text is legal.

        Raises:
            InvalidPairsError: a JSONL object lacks the key, or its value is no text.
        """
        value = self.value(record, column)
        if not isinstance(value, str):
            found = json.dumps(value)[:60]
            raise InvalidPairsError(
                f"{self.source}:{record.line}: column {column!r}: expected a text in quotation marks, found {found}"
            )
        # JSON escapes can spell both, which neither a tokenizer nor a CSV file accepts.
        if "\0" in value or (not value.isascii() and SURROGATE.search(value)):
            raise InvalidPairsError(
                f"{self.source}:{record.line}: column {column!r}: the text contains a NUL or half of a surrogate pair; "
                "clean it"
            )
        return value


@contextmanager
def open_records(
    path: str | Path, *, file_format: Format | None = None, delimiter: str | None = None, encoding: str = "utf-8"
) -> Iterator[Records]:
    """Open a table for reading; a gzipped one may have any name.

    Args:
        path: the file.
        file_format: by default JSONL for ``.jsonl`` and ``.ndjson``, CSV for everything else.
        delimiter: of CSV; by default see `delimiter_of`.
        encoding: of the file; a byte order mark is skipped.

    Raises:
        InvalidPairsError: the file is missing, unreadable, empty or malformed; the message names the line.
    """
    with open_binary(path) as stream:
        plain = PlainStream(stream, str(path))
        yield read_records(
            plain,
            str(path),
            file_format=file_format or format_of(path),
            delimiter=delimiter or delimiter_of(path, plain.peek(), encoding),
            encoding=encoding,
        )


def find_column(wanted: str, columns: tuple[str, ...], source: str) -> str:
    """Return the name of a column given by name or 1-based position.

    Raises:
        InvalidPairsError: the column is missing, or two columns have its name.
    """
    name = wanted
    if name not in columns and wanted.isdecimal() and 1 <= int(wanted) <= len(columns):
        name = columns[int(wanted) - 1]
    if name not in columns:
        raise InvalidPairsError(f"{source}: no column {wanted!r}; the header has: {_listed(columns)}")
    if columns.count(name) > 1:
        raise InvalidPairsError(f"{source}: two columns are named {name!r}; rename one of them")
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
    max_row_length: int = MAX_ROW_LENGTH,
) -> Records:
    """Read a table from a binary stream, which the caller closes.

    Args:
        stream: the table, from its first byte.
        source: its name in messages.
        file_format: CSV or JSONL.
        delimiter: of CSV.
        encoding: of the text; a byte order mark is skipped.
        header: the first record of CSV contains the names of the columns.
        on_bad_record: receives each malformed record, after which reading continues; by default it is an error.
        max_row_length: characters of the longest record.

    Raises:
        InvalidPairsError: the table is empty or malformed; the message names the line.
    """
    lines = Lines(stream, source, encoding, max_length=max_row_length)
    # The limit of rows replaces csv's own one, which is shorter than some columns of the user's tables.
    csv.field_size_limit(max(csv.field_size_limit(), max_row_length))
    if file_format == "jsonl":
        return _json_records(lines, on_bad_record or _refuse)
    return _csv_records(lines, delimiter, header=header, on_bad_record=on_bad_record or _refuse)


def _refuse(bad: BadRecord) -> None:
    raise InvalidPairsError(bad.reason)


def _csv_records(lines: Lines, delimiter: str, *, header: bool, on_bad_record: Callable[[BadRecord], None]) -> Records:
    # A malformed header cannot be skipped.
    fields = _csv_fields(lines, delimiter, _refuse)
    first = next(fields, None)
    preamble = BYTE_ORDER_MARK if lines.marked else ""
    if first is not None and delimiter_line(first[1]):
        preamble += first[1]
        first = next(fields, None)
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

    return Records(lines.source, "csv", delimiter, columns, preamble + first[1] if header else "", rows(), lines)


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
        if values:
            yield start, raw, values
        else:
            lines.blank += 1


def _json_records(lines: Lines, on_bad_record: Callable[[BadRecord], None]) -> Records:
    rows = _json_rows(lines, on_bad_record)
    first = next(rows, None)
    if first is None:
        return Records(lines.source, "jsonl", "", (), "", rows, lines)

    def with_first() -> Iterator[Record]:
        yield first
        yield from rows

    return Records(lines.source, "jsonl", "", tuple(first.cells), "", with_first(), lines)


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
            lines.blank += 1
            continue
        where = f"{lines.source}:{lines.number}"
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            on_bad_record(BadRecord(lines.number, raw, f"{where}: not valid JSON ({error})"))
            continue
        # Counting brackets is fast, and nearly all lines have few.
        if line.count("[") + line.count("{") > MAX_NESTING and _is_too_deep(cells):
            reason = f"{where}: values nested more than {MAX_NESTING} deep; flatten them"
            on_bad_record(BadRecord(lines.number, raw, reason))
        elif isinstance(cells, dict):
            yield Record(lines.number, raw, cells)
        else:
            on_bad_record(BadRecord(lines.number, raw, f"{where}: expected a JSON object with a key for each column"))


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [inner for container in level for inner in _values(container)]
    return bool(level)


def _values(container: object) -> Iterable[object]:
    if isinstance(container, dict):
        return container.values()
    return container if isinstance(container, list) else ()


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names)) or "none"
