"""Columns added to the rows of a table of text.

If the output has the format of the input, a row is the user's own text followed by the new values, so quoting, number
formats and line ends do not change. In another format all values are written anew.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
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
"""Error handler for half surrogate pairs, which JSON can spell and no encoding contains."""

_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.,]*$)")
"""Beginning of a cell that spreadsheet programs run as a formula; signed numbers are none."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Format and delimiter of a file."""

    format: TableFormat
    delimiter: str
    """Delimiter of a CSV, else empty."""


@dataclass(frozen=True, slots=True)
class Head:
    """Header and format of a table."""

    source: str
    """Name of the table in messages."""
    layout: Layout
    columns: tuple[str, ...]
    """Names of the columns; in JSONL the keys of the first object."""
    header: str
    """Text of the header in a CSV file; empty if there is none."""

    @classmethod
    def of(cls, records: Records) -> Head:
        """Return the head of a CSV or JSONL table."""
        return cls(records.source, Layout(records.format, records.delimiter), records.columns, records.header)


def layout_for(path: str, own: Layout) -> Layout:
    """Return the layout of an output file: by its suffix, else the input's."""
    name = Path(path).name.lower()
    chosen = table_format(path) if name.endswith(TABLE_SUFFIXES) else own.format
    if chosen != "csv":
        return Layout(chosen, "")
    if name.removesuffix(".gz").endswith(".tsv"):
        return Layout("csv", "\t")
    return Layout("csv", own.delimiter or ",")


@dataclass(frozen=True, slots=True)
class Column:
    """Column that is added to a table."""

    name: str
    kind: Literal["score", "flag", "number", "text", "value"]
    """A float in [0, 1], a bool (in text 1 or 0), an int, a str, or any value of JSON; None is an empty cell."""
    option: str | None = None
    """The option that sets another name."""


@dataclass(frozen=True, slots=True)
class TextFormat:
    """Form of values in text."""

    float_format: str = ".6f"
    """Format of scores, as for `format`."""
    escape_formulas: bool = False
    """Put ``'`` before CSV cells that a spreadsheet program would run as formulas."""


PLAIN = TextFormat()


class ColumnAdder:
    """Adds columns to the rows of a table, and writes them as lines of text.

    Args:
        head: of the table.
        layout: of the lines: CSV or JSONL.
        added: the columns.
        form: form of the values.

    Raises:
        InvalidPairsError: the table has a column of that name already, or columns that the layout cannot represent.
    """

    def __init__(self, head: Head, layout: Layout, *, added: Columns, form: TextFormat = PLAIN) -> None:
        self._head = head
        self._layout = layout
        self._names = [column.name for column in added]
        self._as_it_stands = layout == head.layout
        self._escaping = form.escape_formulas and layout.format == "csv"
        self._keys = [json.dumps(name) for name in self._names]
        write = {
            "score": f"{{:{form.float_format}}}".format,
            "flag": "{:d}".format,
            "number": "{:d}".format,
            "text": self._csv_cell if layout.format == "csv" else json.dumps,
            "value": self._csv_value if layout.format == "csv" else _json_value,
        }
        self._write = [write[column.kind] for column in added]
        self._nothing = "null" if layout.format == "jsonl" else ""
        self._line_end = (_split_line_end(head.header)[1] if self._as_it_stands else "") or "\n"
        refuse_clash(added, head.columns, head.source)
        if not self._as_it_stands:
            refuse_twins(head)

    def header(self) -> str:
        """Return the header of the output; empty if there is none."""
        if self._layout.format == "jsonl" or (self._head.layout.format == "csv" and not self._head.header):
            return ""
        added = self._csv(self._names)
        if self._as_it_stands and not (self._escaping and any(map(_FORMULA.match, self._head.columns))):
            own = _split_line_end(self._head.header)[0]
        else:
            own = self._csv(self._head.columns)
        return f"{own}{self._layout.delimiter}{added}{self._line_end}"

    def row(self, record: Record, values: Iterable[Any]) -> str:
        """Return a record with its values in the added columns.

        Raises:
            InvalidPairsError: a JSONL object has a key that the CSV header lacks.
        """
        own, end = _split_line_end(record.raw) if self._as_it_stands else (self._anew(record), "")
        end = end or self._line_end
        if self._escaping and self._as_it_stands and any(map(_FORMULA.match, map(str, record.cells.values()))):
            own = self._anew(record)
        written = [
            self._nothing if value is None else write(value) for write, value in zip(self._write, values, strict=True)
        ]
        if self._layout.format == "csv":
            return self._layout.delimiter.join((own, *written)) + end
        members = ", ".join([f"{key}: {value}" for key, value in zip(self._keys, written, strict=True)])
        inside = own.rstrip().removesuffix("}").rstrip()
        return f"{inside}, {members}}}{end}"

    def _csv_cell(self, text: str) -> str:
        return self._csv([text])

    def _csv_value(self, value: object) -> str:
        return self._csv([value_text(value) or ""])

    def _csv(self, cells: Iterable[str]) -> str:
        if self._escaping:
            cells = [f"'{cell}" if _FORMULA.match(cell) else cell for cell in cells]
        return csv_line(cells, self._layout.delimiter)

    def _anew(self, record: Record) -> str:
        if self._layout.format == "jsonl":
            return json.dumps(record.cells, ensure_ascii=False, default=str)
        return self._csv("" if cell is None else cell for cell in text_cells(record, self._head))


class TextSink:
    """Writes scored rows as lines of text.

    Args:
        stream: receives the text; the caller closes it.
        adder: makes the lines.
        encoding: of the text.
    """

    def __init__(self, stream: BinaryIO, adder: ColumnAdder, encoding: str) -> None:
        self._stream = stream
        self._adder = adder
        # A `TextIOWrapper` would close the stream when it is garbage-collected after an error.
        self._encoder = codecs.getincrementalencoder(encoding)(_UNENCODABLE)
        stream.write(self._encoder.encode(adder.header()))

    def write(self, rows: Iterable[Record], columns: Sequence[Sequence[Any]]) -> None:
        """Write rows with their values, column by column."""
        lines = "".join(map(self._adder.row, rows, zip(*columns, strict=True)))
        self._stream.write(self._encoder.encode(lines))

    def close(self) -> None:
        """Write the end of the text, which stateful encodings hold back."""
        self._stream.write(self._encoder.encode("", final=True))

    def abandon(self) -> None:
        """Do nothing: no row is held back."""


def refuse_clash(added: Columns, names: Iterable[str], where: str) -> None:
    """Check that a table lacks the columns to be added.

    Raises:
        InvalidPairsError: it has one of them.
    """
    for column in added:
        if column.name in names:
            advice = f"name another with {column.option}" if column.option else "rename it"
            raise InvalidPairsError(f"{where}: the table has a column {column.name!r} already; {advice}")


def refuse_twins(head: Head) -> None:
    """Check that no two columns share a name, because other formats identify values by it.

    Raises:
        InvalidPairsError: two columns share a name.
    """
    if len(set(head.columns)) < len(head.columns):
        raise InvalidPairsError(
            f"{head.source}: two columns have the same name; rename one, or write the format and the delimiter of "
            "the input"
        )


def text_cells(record: Record, head: Head) -> list[str | None]:
    """Return a record's values as text, column by column; other values become JSON.

    Raises:
        InvalidPairsError: a JSONL object has a key that the first one lacks.
    """
    if unknown := sorted(record.cells.keys() - set(head.columns)):
        raise InvalidPairsError(
            f"{head.source}:{record.line}: key {unknown[0]!r} is not in the first object, so it has no column; "
            "write JSONL instead"
        )
    return [value_text(record.cells.get(name)) for name in head.columns]


def encodable(text: str) -> str:
    """Return a text with each half of a surrogate pair written out, which no encoding contains."""
    return text.encode("utf-8", _UNENCODABLE).decode()


def csv_line(values: Iterable[str], delimiter: str) -> str:
    """Return values as a line of CSV, without its end."""
    # With this line end csv quotes both of its characters in cells.
    writer = csv.writer(_Echo(), delimiter=delimiter, lineterminator="\r\n")
    line: str = writer.writerow(values)
    return line.removesuffix("\r\n")


class _Echo:
    """File for `csv.writer` that returns each line."""

    def write(self, line: str) -> str:
        return line


def _split_line_end(raw: str) -> tuple[str, str]:
    for end in ("\r\n", "\n", "\r"):
        if raw.endswith(end):
            return raw[: -len(end)], end
    return raw, ""


def value_text(value: object) -> str | None:
    """Return a value as text: other values than texts become JSON."""
    return value if value is None or isinstance(value, str) else _json_value(value)


def _json_value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
