"""How columns are added to the rows of a table of text.

Where the output has the format of the input, a row is the user's own text with the figures behind it, so quoting,
number formats and line ends stay as they are. Where it has another format, the values are written anew.
"""

from __future__ import annotations

import codecs
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from flipkd_sdk.cli.tables.files import TABLE_SUFFIXES, TableFormat, table_format
from flipkd_sdk.errors import InvalidPairsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flipkd_sdk.tables.reader import Record, Records

    Columns = Sequence["Column"]

_UNENCODABLE = "backslashreplace"
"""For values that are not ours to judge: JSON can spell half of a surrogate pair, which no encoding has."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file are written."""

    format: TableFormat
    delimiter: str
    """Between the fields of CSV, else empty."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a table before its rows are read."""

    source: str
    """What messages call it."""
    layout: Layout
    columns: tuple[str, ...]
    """Of JSONL, the keys of the first object."""
    header: str
    """The header of a CSV file as it stands there; empty without one."""

    @classmethod
    def of(cls, records: Records) -> Head:
        """That of a CSV or JSONL table."""
        return cls(records.source, Layout(records.format, records.delimiter), records.columns, records.header)


def layout_for(path: str, own: Layout) -> Layout:
    """The layout of an output file: as its suffix tells, else that of the input."""
    name = Path(path).name.lower()
    chosen = table_format(path) if name.endswith(TABLE_SUFFIXES) else own.format
    if chosen != "csv":
        return Layout(chosen, "")
    if name.removesuffix(".gz").endswith(".tsv"):
        return Layout("csv", "\t")
    return Layout("csv", own.delimiter or ",")


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is added to a table."""

    name: str
    kind: Literal["score", "flag", "number", "text"]
    """A float in [0, 1], a bool (in text 1 or 0), an int or a str."""
    option: str | None = None
    """The option that names it otherwise."""


class ColumnAdder:
    """Adds columns to the rows of a table, and writes them as lines of text.

    Args:
        head: of the table.
        layout: of the lines: CSV or JSONL.
        added: the columns.
        float_format: of scores, as for `format`.

    Raises:
        InvalidPairsError: the table has a column of that name already, or columns that the layout cannot hold.
    """

    def __init__(self, head: Head, layout: Layout, *, added: Columns, float_format: str = ".6f") -> None:
        self._head = head
        self._layout = layout
        self._names = [column.name for column in added]
        self._as_it_stands = layout == head.layout
        self._keys = [json.dumps(name) for name in self._names]
        write = {
            "score": f"{{:{float_format}}}".format,
            "flag": "{:d}".format,
            "number": "{:d}".format,
            "text": self._quoted if layout.format == "csv" else json.dumps,
        }
        self._write = [write[column.kind] for column in added]
        self._line_end = (_split_line_end(head.header)[1] if self._as_it_stands else "") or "\n"
        refuse_clash(added, head.columns, head.source)
        if not self._as_it_stands:
            refuse_twins(head)

    def header(self) -> str:
        """The header of the output; empty where there is none."""
        if self._layout.format == "jsonl" or (self._head.layout.format == "csv" and not self._head.header):
            return ""
        added = csv_line(self._names, self._layout.delimiter)
        if self._as_it_stands:
            own = _split_line_end(self._head.header)[0]
        else:
            own = csv_line(self._head.columns, self._layout.delimiter)
        return f"{own}{self._layout.delimiter}{added}{self._line_end}"

    def row(self, record: Record, values: Iterable[Any]) -> str:
        """A record with its values in the columns.

        Raises:
            InvalidPairsError: a JSONL object has a key that the CSV header lacks.
        """
        own, end = _split_line_end(record.raw) if self._as_it_stands else (self._anew(record), "")
        end = end or self._line_end
        written = [write(value) for write, value in zip(self._write, values, strict=True)]
        if self._layout.format == "csv":
            return self._layout.delimiter.join((own, *written)) + end
        members = ", ".join([f"{key}: {value}" for key, value in zip(self._keys, written, strict=True)])
        inside = own.rstrip().removesuffix("}").rstrip()
        return f"{inside}, {members}}}{end}"

    def _quoted(self, text: str) -> str:
        return csv_line([text], self._layout.delimiter)

    def _anew(self, record: Record) -> str:
        if self._layout.format == "jsonl":
            return json.dumps(record.cells, ensure_ascii=False, default=str)
        return csv_line(
            ["" if cell is None else cell for cell in text_cells(record, self._head)], self._layout.delimiter
        )


class TextSink:
    """Writes scored rows as lines of text.

    Args:
        stream: where to, which stays the caller's to close.
        adder: makes the lines.
        encoding: of the text.
    """

    def __init__(self, stream: BinaryIO, adder: ColumnAdder, encoding: str) -> None:
        self._stream = stream
        self._adder = adder
        # Not a `TextIOWrapper`, which would close the stream when an error makes everyone forget it.
        self._encoder = codecs.getincrementalencoder(encoding)(_UNENCODABLE)
        stream.write(self._encoder.encode(adder.header()))

    def write(self, rows: Iterable[Record], columns: Sequence[Sequence[Any]]) -> None:
        """Write rows with their values, column by column."""
        lines = "".join(map(self._adder.row, rows, zip(*columns, strict=True)))
        self._stream.write(self._encoder.encode(lines))

    def close(self) -> None:
        """Write what a stateful encoding still owes."""
        self._stream.write(self._encoder.encode("", final=True))

    def abandon(self) -> None:
        """Nothing is held back here."""


def refuse_clash(added: Columns, names: Iterable[str], where: str) -> None:
    """Check that the columns to be added are not there already.

    Raises:
        InvalidPairsError: one of them is.
    """
    for column in added:
        if column.name in names:
            advice = f"name another with {column.option}" if column.option else "rename it"
            raise InvalidPairsError(f"{where}: there is a column {column.name!r} already; {advice}")


def refuse_twins(head: Head) -> None:
    """Check that every column has a name of its own, without which values cannot be told apart.

    Raises:
        InvalidPairsError: two columns share a name.
    """
    if len(set(head.columns)) < len(head.columns):
        raise InvalidPairsError(
            f"{head.source}: two columns have the same name; rename one, or write the rows as they stand, in the "
            "format and with the delimiter of the input"
        )


def text_cells(record: Record, head: Head) -> list[str | None]:
    """A record's values as text, column by column; what is no text is written as JSON.

    Raises:
        InvalidPairsError: a JSONL object has a key that the first one lacks.
    """
    if unknown := sorted(record.cells.keys() - set(head.columns)):
        raise InvalidPairsError(
            f"{head.source}:{record.line}: key {unknown[0]!r} is not in the first object, so there is no column for "
            "it; write JSONL instead"
        )
    return [_cell(record.cells.get(name)) for name in head.columns]


def csv_line(values: Iterable[str], delimiter: str) -> str:
    """Values as a line of CSV, without its end."""
    # With this line end csv quotes both of its characters, wherever they stand.
    writer = csv.writer(_Echo(), delimiter=delimiter, lineterminator="\r\n")
    line: str = writer.writerow(values)
    return line.removesuffix("\r\n")


class _Echo:
    """The file that `csv.writer` hands its lines to, which hands them back."""

    def write(self, line: str) -> str:
        return line


def _split_line_end(raw: str) -> tuple[str, str]:
    for end in ("\r\n", "\n", "\r"):
        if raw.endswith(end):
            return raw[: -len(end)], end
    return raw, ""


def _cell(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
