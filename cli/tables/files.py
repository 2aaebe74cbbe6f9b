"""Files of the user: opening for reading, and atomic writing."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from flipkd_sdk.atomic import atomic_file, check_file
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.decoding import PlainStream, open_binary
from flipkd_sdk.tables.sniffing import format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STANDARD_STREAM = "-"
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".csv.gz", ".tsv.gz", ".jsonl.gz", ".ndjson.gz", ".parquet")
_WORKBOOK_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods")

TableFormat = Literal["csv", "jsonl", "parquet"]


@dataclass(frozen=True, slots=True)
class Input:
    """Bytes of a table."""

    stream: PlainStream
    source: str
    """Name of the table in messages."""
    size: int | None
    """Bytes on disk; None if unknown."""
    position: Callable[[], int]
    """Returns the bytes on disk read so far."""


@contextlib.contextmanager
def open_input(path: str) -> Iterator[Input]:
    """Open a file, or standard input for ``-``; either may be gzipped.

    Raises:
        InvalidPairsError: the file cannot be read.
    """
    if path == STANDARD_STREAM:
        source = "standard input"
        stdin = sys.stdin.buffer
        # A replacement of standard input may lack `peek`.
        stream = stdin if isinstance(stdin, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stdin))
        yield Input(PlainStream(stream, source), source, None, lambda: 0)
        return
    with open_binary(path) as file:
        size = os.fstat(file.fileno()).st_size or None
        yield Input(PlainStream(file, path), path, size, file.tell if size else lambda: 0)


@contextlib.contextmanager
def open_output(path: str, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file for writing, gzipped if its suffix is ``.gz``, or standard output for ``-``.

    A file takes its name when it is complete and on the disk; see `flipkd_sdk.atomic`.

    Raises:
        OutputExistsError: see `check_output`; or another run is writing the file.
        OSError: it cannot be written; names the file.
    """
    check_output(path, overwrite=overwrite)
    try:
        if path == STANDARD_STREAM:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()  # An error of the interpreter's own flush at exit could not be reported.
            return
        target = Path(path)
        if not is_plain_file(path):  # A device such as /dev/null cannot be replaced.
            with target.open("wb") as device:
                yield device
            return
        with atomic_file(target, exclusive=True) as file, _packed(file, path) as packed:
            yield packed
    except OSError as error:
        if error.filename is None:
            error.filename = "standard output" if path == STANDARD_STREAM else path
        raise


def check_output(path: str, *, overwrite: bool) -> None:
    """Check early that an output file may be written.

    Raises:
        OutputExistsError: the file exists and ``overwrite`` is not set, or the path is a directory.
        InvalidPairsError: the file's folder does not exist, or its suffix is a workbook's.
    """
    if path == STANDARD_STREAM:
        return
    place = Path(path)
    if place.suffix.lower() in _WORKBOOK_SUFFIXES:
        raise InvalidPairsError(f"{path}: workbooks are not written; name a .csv file, which spreadsheet programs open")
    check_file(place, overwrite=overwrite)
    if not Path(os.path.realpath(place)).parent.is_dir():
        raise InvalidPairsError(f"{path}: the folder {place.parent} does not exist; create it first")


def is_plain_file(path: str) -> bool:
    """Return whether an output is written atomically, as files are and devices and streams are not."""
    return path != STANDARD_STREAM and (Path(path).is_file() or not Path(path).exists())


def table_format(path: str) -> TableFormat:
    """Return the format of a file by its suffix: Parquet for ``.parquet``, else `format_of`."""
    return "parquet" if Path(path).suffix.lower() == ".parquet" else format_of(path)


@contextlib.contextmanager
def _packed(file: BinaryIO, path: str) -> Iterator[BinaryIO]:
    if not path.lower().endswith(".gz"):
        yield file
        return
    # Name and time are left out, so that the same rows make the same file.
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
        yield cast("BinaryIO", packed)
