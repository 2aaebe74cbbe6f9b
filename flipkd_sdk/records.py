"""Tables of user data, read strictly and one record at a time: CSV (RFC 4180, with a header) and JSONL.

Each record keeps the line that it starts on, for messages, and its text as it stands in the file, so that a command can
hand the user's own columns back byte for byte. Memory is bounded by one record.
"""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flipkd_sdk.errors import InvalidPairsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Format = Literal["csv", "jsonl"]

_BYTE_ORDER_MARK = "\ufeff"
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
class Records:
    """A table being read: what is known of its columns, and the records still to come."""

    source: str
    """What messages call the table: its path, or ``standard input``."""
    format: Format
    delimiter: str
    """Separates the fields of a CSV file."""
    columns: tuple[str, ...]
    """Names in the header of a CSV file; of JSONL, the keys of the first object."""
    header: str
    """The header as it stands in the file, with byte order mark and line end; empty for JSONL."""
    rows: Iterator[Record]

    def column(self, wanted: str) -> str:
        """The name of a column given by name or, in CSV, by 1-based position.

        Raises:
            InvalidPairsError: there is no such column, or its name stands twice in the header.
        """
        name = wanted
        if self.format == "jsonl":
            return name  # Objects need not have the same keys; `text` finds out record by record.
        if name not in self.columns and wanted.isdecimal() and 1 <= int(wanted) <= len(self.columns):
            name = self.columns[int(wanted) - 1]
        if name not in self.columns:
            raise InvalidPairsError(f"{self.source}: no column {wanted!r}; the header has: {_listed(self.columns)}")
        if self.columns.count(name) > 1:
            raise InvalidPairsError(f"{self.source}: column {name!r} stands twice in the header; rename one of them")
        return name

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
        where = f"{self.source}:{record.line}: column {column!r}"
        if not isinstance(value, str):
            raise InvalidPairsError(f"{where}: expected a text in quotation marks, found {json.dumps(value)[:60]}")
        # JSON escapes can spell both; neither is text that a tokenizer or a CSV file can hold.
        if "\0" in value or (not value.isascii() and _SURROGATE.search(value)):
            raise InvalidPairsError(f"{where}: the text holds a NUL or half of a surrogate pair; clean it")
        return value


@contextmanager
def open_records(
    path: str | Path, *, file_format: Format | None = None, delimiter: str | None = None, encoding: str = "utf-8"
) -> Iterator[Records]:
    """Open a table for reading.

    Args:
        path: the file.
        file_format: by default JSONL for ``.jsonl`` and ``.ndjson``, CSV for everything else.
        delimiter: of CSV; by default a tab for ``.tsv`` and a comma for everything else.
        encoding: of the file; a byte order mark is skipped.

    Raises:
        InvalidPairsError: the file is missing, unreadable, empty or malformed; the message names the line.
    """
    with open_binary(path) as stream:
        chosen, separator = file_format or format_of(path), delimiter or delimiter_of(path)
        yield read_records(stream, str(path), file_format=chosen, delimiter=separator, encoding=encoding)


def format_of(path: str | Path) -> Format:
    """The format that a file's suffix tells: JSONL for ``.jsonl`` and ``.ndjson``, else CSV."""
    return "jsonl" if Path(path).suffix.lower() in (".jsonl", ".ndjson") else "csv"


def delimiter_of(path: str | Path) -> str:
    """The delimiter that a CSV file's suffix tells: a tab for ``.tsv``, else a comma."""
    return "\t" if Path(path).suffix.lower() == ".tsv" else ","


def open_binary(path: str | Path) -> io.BufferedReader:
    """Open a file of user data.

    Raises:
        InvalidPairsError: it is missing, a directory or unreadable.
    """
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise InvalidPairsError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InvalidPairsError(f"{path}: a directory; expected a file") from None
    except OSError as error:
        raise InvalidPairsError(f"{path}: cannot be read ({error.strerror})") from error


def read_records(
    stream: io.BufferedIOBase,
    source: str,
    *,
    file_format: Format = "csv",
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> Records:
    """Read a table from a binary stream, which stays the caller's to close; see `open_records`."""
    lines = Lines(stream, source, encoding)
    if file_format == "jsonl":
        return _json_records(lines)
    return _csv_records(lines, delimiter)


class _Borrowed(io.BufferedIOBase):
    """A stream that a `TextIOWrapper` reads from but does not close when it is forgotten."""

    name = "borrowed"

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        return self._stream.read1(size)


class Lines:
    """The lines of a binary stream, checked to be text, and kept until the record that they belong to is complete."""

    def __init__(self, stream: io.BufferedIOBase, source: str, encoding: str) -> None:
        self.source = source
        self.number = 0
        """1-based number of the line read last."""
        self.marked = False
        """Whether the text began with a byte order mark."""
        self.kept: list[str] = []
        # Bytes that are not text become surrogates, which shows the line that they are on.
        self._text = io.TextIOWrapper(_Borrowed(stream), encoding, errors="surrogateescape", newline="")
        self._encoding = encoding

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        self.number += 1
        try:
            line = next(self._text)
        except UnicodeError as error:
            raise self._undecodable() from error
        if not line.isascii() and _SURROGATE.search(line):
            raise self._undecodable()
        if "\0" in line:
            raise InvalidPairsError(f"{self.source}:{self.number}: NUL character; is this a UTF-16 or a binary file?")
        if self.number == 1 and line.startswith(_BYTE_ORDER_MARK):
            self.marked = True
            line = line[1:]
        self.kept.append(line)
        return line

    def take(self) -> str:
        """The text of the lines kept so far, which are then forgotten."""
        raw = "".join(self.kept)
        self.kept.clear()
        return raw

    def _undecodable(self) -> InvalidPairsError:
        return InvalidPairsError(
            f"{self.source}:{self.number}: not {self._encoding} text; convert the file or name its encoding"
        )


def _csv_records(lines: Lines, delimiter: str) -> Records:
    fields = _csv_fields(lines, delimiter)
    try:
        _, header, names = next(fields)
    except StopIteration:
        raise InvalidPairsError(
            f"{lines.source}: empty; expected a header line with the names of the columns"
        ) from None
    columns = tuple(names)

    def rows() -> Iterator[Record]:
        for line, raw, values in fields:
            if len(values) != len(columns):
                raise InvalidPairsError(
                    f"{lines.source}:{line}: {len(values)} fields, but the header has {len(columns)}; "
                    "check the quotation marks and the delimiter"
                )
            yield Record(line, raw, dict(zip(columns, values, strict=True)))

    mark = _BYTE_ORDER_MARK if lines.marked else ""
    return Records(lines.source, "csv", delimiter, columns, mark + header, rows())


def _csv_fields(lines: Lines, delimiter: str) -> Iterator[tuple[int, str, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = lines.number + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidPairsError(
                f"{lines.source}:{start}: malformed CSV ({error}); check the quotation marks of this record"
            ) from error
        raw = lines.take()
        if values:  # A blank line is no record.
            yield start, raw, values


def _json_records(lines: Lines) -> Records:
    rows = _json_rows(lines)
    first = next(rows, None)
    if first is None:
        return Records(lines.source, "jsonl", "", (), "", rows)

    def with_first() -> Iterator[Record]:
        yield first
        yield from rows

    return Records(lines.source, "jsonl", "", tuple(first.cells), "", with_first())


def _json_rows(lines: Lines) -> Iterator[Record]:
    for line in lines:
        raw = lines.take()
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidPairsError(f"{lines.source}:{lines.number}: not valid JSON ({error})") from error
        if not isinstance(cells, dict):
            raise InvalidPairsError(f"{lines.source}:{lines.number}: expected a JSON object with a key for each column")
        yield Record(lines.number, raw, cells)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names)) or "none"
