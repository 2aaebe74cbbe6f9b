"""Files of the user: opened for reading, and written so that nobody ever meets half of one."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from flipkd_sdk.errors import InvalidPairsError, OutputExistsError
from flipkd_sdk.tables.decoding import PlainStream, open_binary
from flipkd_sdk.tables.sniffing import format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if sys.platform != "win32":
    import fcntl

STANDARD_STREAM = "-"
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".csv.gz", ".tsv.gz", ".jsonl.gz", ".ndjson.gz", ".parquet")

TableFormat = Literal["csv", "jsonl", "parquet"]


@dataclass(frozen=True, slots=True)
class Input:
    """A table's bytes, and how far they are read."""

    stream: PlainStream
    source: str
    """What messages call it."""
    size: int | None
    """Bytes on disk; None where that is unknown."""
    position: Callable[[], int]
    """Bytes on disk read so far."""


@contextlib.contextmanager
def open_input(path: str) -> Iterator[Input]:
    """Open a file, or standard input for ``-``; either may be gzipped.

    Raises:
        InvalidPairsError: the file cannot be read.
    """
    if path == STANDARD_STREAM:
        source = "standard input"
        stdin = sys.stdin.buffer
        # Whoever stands in for standard input may not be able to look ahead.
        stream = stdin if isinstance(stdin, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stdin))
        yield Input(PlainStream(stream, source), source, None, lambda: 0)
        return
    with open_binary(path) as file:
        size = os.fstat(file.fileno()).st_size or None
        yield Input(PlainStream(file, path), path, size, file.tell if size else lambda: 0)


@contextlib.contextmanager
def open_output(path: str, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file for writing, gzipped where it is named so, or standard output for ``-``.

    A file is written under a temporary name beside its place and takes its own name when all is done and on the disk.
    Upon an error the temporary file is removed; one that a killed run has left is used again.

    Raises:
        OutputExistsError: see `check_output`; or another run is writing the file.
        OSError: it cannot be written; names the file.
    """
    check_output(path, overwrite=overwrite)
    try:
        if path == STANDARD_STREAM:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()  # At the interpreter's end it would be too late to report an error.
            return
        # A link keeps pointing to the file that is written; a device such as /dev/null cannot be replaced.
        target = Path(path).resolve()
        if target.exists() and not target.is_file():
            with target.open("wb") as device:
                yield device
            return
        with _published(target) as file, _packed(file, path) as packed:
            yield packed
    except OSError as error:
        if error.filename is None:
            error.filename = "standard output" if path == STANDARD_STREAM else path
        raise


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


def is_plain_file(path: str) -> bool:
    """Whether an output is, or will be, a file that takes its name when it is complete."""
    return path != STANDARD_STREAM and (Path(path).is_file() or not Path(path).exists())


def table_format(path: str) -> TableFormat:
    """Return the format of a file by its suffix: Parquet for ``.parquet``, else `sniffing.format_of`."""
    return "parquet" if Path(path).suffix.lower() == ".parquet" else format_of(path)


@contextlib.contextmanager
def _published(target: Path) -> Iterator[BinaryIO]:
    part = target.with_name(f".{target.name[:200]}.part")
    try:
        part.touch()
        with part.open("r+b") as file:
            _lock(file, part, target)
            file.truncate()
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":
                file.close()
            # While the lock is held: afterwards the temporary file may be another run's.
            part.replace(target)
    except BaseException:
        # From the first moment on: a signal may come before the lock.
        _discard(part)
        raise


def _discard(part: Path) -> None:
    """Remove a temporary file, unless another run is writing it."""
    with contextlib.suppress(OSError), part.open("r+b") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()
    if sys.platform == "win32":
        with contextlib.suppress(OSError):  # It refuses by itself to remove a file that another program has open.
            part.unlink()


def _lock(file: BinaryIO, part: Path, target: Path) -> None:
    if sys.platform == "win32":
        return  # It refuses by itself to rename a file that another program has open.
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OutputExistsError(f"{target}: another run is writing it; wait for it or name another output") from error
    # Between opening and locking, another run may have given the file its final name.
    if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
        raise OutputExistsError(f"{target}: another run has just written it; pass --overwrite to replace it")


@contextlib.contextmanager
def _packed(file: BinaryIO, path: str) -> Iterator[BinaryIO]:
    if not path.lower().endswith(".gz"):
        yield file
        return
    # Without name and time, so that the same rows make the same file.
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
        yield cast("BinaryIO", packed)
