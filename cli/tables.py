"""Tables of the user: where they are read from and written to, and how two columns are added to their rows.

Where the output has the format of the input, a row is the user's own text with the figures behind it, so quoting,
number formats and line ends stay as they are. Where it has another format, the values are written anew.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from flipkd_sdk.errors import InvalidPairsError, OutputExistsError
from flipkd_sdk.records import Format, Record, Records, format_of, open_binary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STANDARD_STREAM = "-"

_FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson")
_UNENCODABLE = "backslashreplace"
"""For values that are not ours to judge: JSON can spell half of a surrogate pair, which no encoding has."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file are written."""

    format: Format
    delimiter: str
    """Between the fields of CSV; empty for JSONL."""


def layout_for(path: str, records: Records) -> Layout:
    """The layout of an output file: as its suffix tells, else that of the input."""
    suffix = Path(path).suffix.lower()
    chosen = format_of(path) if suffix in _FORMATS else records.format
    if chosen == "jsonl":
        return Layout("jsonl", "")
    if suffix == ".tsv":
        return Layout("csv", "\t")
    return Layout("csv", records.delimiter or ",")


class ColumnAdder:
    """Adds a score and a match column to the rows of a table, and writes them as lines of text."""

    def __init__(self, records: Records, layout: Layout, *, score: str, match: str) -> None:
        self._records = records
        self._layout = layout
        self._added = (score, match)
        self._as_it_stands = layout == Layout(records.format, records.delimiter)
        self._keys = json.dumps(score), json.dumps(match)
        self._line_end = (_split_line_end(records.header)[1] if self._as_it_stands else "") or "\n"
        self._refuse_clash(records.columns, records.source)
        if records.format == "csv" != layout.format and len(set(records.columns)) < len(records.columns):
            raise InvalidPairsError(f"{records.source}: two columns have the same name, which JSON does not allow")

    def header(self) -> str:
        """The header of the output; empty for JSONL."""
        if self._layout.format == "jsonl":
            return ""
        added = _csv_line(self._added, self._layout.delimiter)
        if self._as_it_stands:
            own = _split_line_end(self._records.header)[0]
        else:
            own = _csv_line(self._records.columns, self._layout.delimiter)
        return f"{own}{self._layout.delimiter}{added}{self._line_end}"

    def row(self, record: Record, score: float, match: bool) -> str:
        """A record with its score, to six decimals, and its match, 0 or 1.

        Raises:
            InvalidPairsError: a JSONL object has a key of that name already, or one that the CSV header lacks.
        """
        if self._records.format == "jsonl":
            self._refuse_clash(record.cells, f"{self._records.source}:{record.line}")
        own, end = _split_line_end(record.raw) if self._as_it_stands else (self._anew(record), "")
        end = end or self._line_end
        if self._layout.format == "csv":
            between = self._layout.delimiter
            return f"{own}{between}{score:.6f}{between}{match:d}{end}"
        score_key, match_key = self._keys
        return f"{own.rstrip().removesuffix('}').rstrip()}, {score_key}: {score:.6f}, {match_key}: {match:d}}}{end}"

    def _anew(self, record: Record) -> str:
        if self._layout.format == "jsonl":
            return json.dumps(record.cells, ensure_ascii=False)
        if unknown := sorted(record.cells.keys() - set(self._records.columns)):
            raise InvalidPairsError(
                f"{self._records.source}:{record.line}: key {unknown[0]!r} is not in the first object, so the CSV has "
                "no column for it; write JSONL instead"
            )
        return _csv_line((_cell(record.cells.get(name)) for name in self._records.columns), self._layout.delimiter)

    def _refuse_clash(self, names: Iterable[str], where: str) -> None:
        for name, option in zip(self._added, ("--score-column", "--match-column"), strict=True):
            if name in names:
                raise InvalidPairsError(f"{where}: there is a column {name!r} already; name another with {option}")


@contextmanager
def open_input(path: str) -> Iterator[tuple[io.BufferedReader, str, int | None]]:
    """Open a file, or standard input for ``-``; yields the stream, its name for messages and its size if known.

    Raises:
        InvalidPairsError: the file cannot be read.
    """
    if path == STANDARD_STREAM:
        yield cast("io.BufferedReader", sys.stdin.buffer), "standard input", None
        return
    with open_binary(path) as stream:
        status = os.fstat(stream.fileno())
        yield stream, path, status.st_size or None


@contextmanager
def open_output(path: str, *, encoding: str, overwrite: bool) -> Iterator[TextIO]:
    """Open a file for writing, or standard output for ``-``.

    A file is written under a temporary name beside its place and takes its own name when all is done, so that nobody
    meets half a file; upon an error it is removed.

    Raises:
        OutputExistsError: see `check_output`.
    """
    if path == STANDARD_STREAM:
        stdout = io.TextIOWrapper(sys.stdout.buffer, encoding, errors=_UNENCODABLE, newline="")
        try:
            yield stdout
        finally:
            stdout.detach()
        return
    check_output(path, overwrite=overwrite)
    # A link keeps pointing to the file that is written; a device such as /dev/null cannot be replaced.
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        with target.open("w", encoding=encoding, errors=_UNENCODABLE, newline="") as text:
            yield text
        return
    part = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    try:
        with part.open("w", encoding=encoding, errors=_UNENCODABLE, newline="") as text:
            yield text
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def check_output(path: str, *, overwrite: bool) -> None:
    """Find out early whether an output file may be written.

    Raises:
        OutputExistsError: there is a file and overwriting it was not asked for, or there is a directory.
        InvalidPairsError: the folder to write it in does not exist.
    """
    place = Path(path)
    if path == STANDARD_STREAM:
        return
    if place.is_dir():
        raise OutputExistsError(f"{path}: a directory; name a file in it")
    if place.is_file() and not overwrite:
        raise OutputExistsError(f"{path}: exists already; pass --overwrite to replace it")
    if not place.resolve().parent.is_dir():
        raise InvalidPairsError(f"{path}: the folder {place.parent} does not exist; create it first")


def _split_line_end(raw: str) -> tuple[str, str]:
    for end in ("\r\n", "\n", "\r"):
        if raw.endswith(end):
            return raw[: -len(end)], end
    return raw, ""


class _Echo:
    """The file that `csv.writer` hands its lines to, which hands them back."""

    def write(self, line: str) -> str:
        return line


def _csv_line(values: Iterable[str], delimiter: str) -> str:
    # With this line end csv quotes both of its characters, wherever they stand.
    writer = csv.writer(_Echo(), delimiter=delimiter, lineterminator="\r\n")
    line: str = writer.writerow(values)
    return line.removesuffix("\r\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
