"""`LabelFile`: labels in a CSV that `flipkd train` reads, each on the disk before the next pair is shown."""

from __future__ import annotations

import csv
import io
import os
import sys
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Self

from flipkd_sdk.atomic import open_own_file
from flipkd_sdk.cli.tables.columns import csv_line, encodable
from flipkd_sdk.errors import InvalidPairsError, OutputExistsError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Labelled:
    """A labelled pair; the fields are the columns of the file."""

    text_a: str
    text_b: str
    label: str
    """1 for a match, 0 for none; empty in the file of pairs that were left open."""
    chosen: str
    """``near`` for a pair near the threshold, ``random`` for one drawn at random from the matches."""
    score: str
    """Score or cosine at the time."""


_COLUMNS = [field.name for field in fields(Labelled)]


class LabelFile:
    """An open file of labels, locked against other processes.

    A label is written, flushed and synchronized at once. What a killed process has left of a record is removed.

    Args:
        path: the file; created if it is missing.

    Raises:
        OutputExistsError: another process is writing it, or it is not a plain file of this user.
        InvalidPairsError: it has other columns.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_own_file(path, create=True)
        self._path = path
        try:
            self._lock()
            content = self._file.read()
            records = list(_complete(content))
            end = sum(map(len, records))
            if end < len(content):
                self._cut(end)
            self._starts: list[int] = []
            self.labels: list[Labelled] = []
            self._load(records)
        except BaseException:
            self._file.close()
            raise

    def append(self, labelled: Labelled) -> None:
        """Write a label to the disk."""
        start = self._file.seek(0, os.SEEK_END)
        self._write(astuple(labelled))
        self._starts.append(start)
        self.labels.append(labelled)

    def undo(self) -> Labelled:
        """Remove the last label from the disk, and return it."""
        self._cut(self._starts.pop())
        return self.labels.pop()

    def close(self) -> None:
        """Close the file and release the lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputExistsError(
                f"{self._path}: another 'flipkd label' is writing it; end that one, or name another file with --out"
            ) from error
        except OSError:
            return  # The file system has no locks.

    def _load(self, records: list[bytes]) -> None:
        if not records:
            self._write(_COLUMNS)
            return
        place = 0
        for number, record in enumerate(records):
            try:
                line = io.StringIO(record.decode("utf-8-sig" if number == 0 else "utf-8"), newline="")
                cells = next(csv.reader(line, strict=True))
            except (UnicodeDecodeError, csv.Error) as error:
                raise self._foreign(number + 1) from error
            if (number == 0 and cells != _COLUMNS) or len(cells) != len(_COLUMNS):
                raise self._foreign(number + 1)
            if number:
                self._starts.append(place)
                self.labels.append(Labelled(*cells))
            place += len(record)

    def _foreign(self, record: int) -> InvalidPairsError:
        columns = ",".join(_COLUMNS)
        return InvalidPairsError(
            f"{self._path}: record {record} has other columns than {columns}; name another file with --out"
        )

    def _write(self, cells: Iterable[str]) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(f"{encodable(csv_line(cells, ','))}\n".encode())
        self._sync()

    def _cut(self, size: int) -> None:
        self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)
        self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _complete(content: bytes) -> Iterator[bytes]:
    """Yield the complete records of a CSV: those that end with a line end outside quotes."""
    record = b""
    # A carriage return may be part of a text.
    for line in io.BytesIO(content):
        record += line
        if record.endswith(b"\n") and record.count(b'"') % 2 == 0:
            yield record
            record = b""
