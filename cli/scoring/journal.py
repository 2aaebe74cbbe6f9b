"""Journal: the scores of an unfinished run, kept beside its output so that another run can continue it.

The output can be written again from the table and its scores, in any format, so only the scores are kept. A run that
continues reads the table from its beginning and takes its first scores from the journal. Thus nothing depends on how
half-written rows, compressed blocks or Parquet footers could be continued.

The file is a line of JSON that identifies the run, followed by frames: the scores of consecutive rows with a digest of
their texts. A kill can cut only the last frame, and its checksum detects that.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from flipkd_sdk.atomic import open_own_file
from flipkd_sdk.errors import FlipKDError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_FRAME = struct.Struct("<II16s")
"""Rows, checksum of the digest and the scores, digest of the texts."""
_MAX_HEADER_BYTES = 1 << 16
_VERSION = {"flipkd resume file": "1"}


class ResumeError(FlipKDError):
    """Journal of a run with another matcher, table or options."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Scores of consecutive rows."""

    scores: NDArray[np.float32]
    """Shape (rows,)."""
    digest: bytes
    """Digest of the rows' texts, see `digest`."""


class Journal:
    """File of scores: `replay` those of an earlier run, then `append` to them.

    Args:
        path: the file; it is created with the first scores.
        identity: all that decides a pair's score, and the options that choose the pairs.

    Raises:
        ResumeError: the file is that of a run with another identity, or no journal.
        OutputExistsError: the file could be somebody else's, see `open_own_file`.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self._path = path
        self._identity = {**_VERSION, **identity}
        self._header = json.dumps(self._identity).encode() + b"\n"
        self._file: BinaryIO | None = None
        self.rows = 0
        """Number of rows whose scores are kept."""
        self.finished = False
        """True if they are all rows, so that the output may have been written already."""
        if os.path.lexists(path):
            self._file = open_own_file(path, create=False)
            self._find_end(self._file)

    def replay(self) -> Iterator[Frame]:
        """Yield the frames of an earlier run."""
        if self._file is None:
            return
        self._file.seek(len(self._header))
        left = self.rows
        while left and (frame := _read_frame(self._file)):
            left -= len(frame.scores)
            yield frame

    def append(self, pairs: Sequence[tuple[str, ...]], scores: NDArray[np.float32]) -> None:
        """Keep the scores of the next rows."""
        self._write(scores, digest(pairs))
        self.rows += len(scores)
        self.finished = False

    def finish(self) -> None:
        """Mark the scores as complete, before the output takes its name."""
        if not self.finished:
            self._write(np.empty(0, np.float32), digest([]))
            self.finished = True

    def close(self) -> None:
        """Close the file and keep it."""
        if self._file is not None:
            self._file.close()

    def discard(self) -> None:
        """Close the file and remove it, after the output has taken its name."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _find_end(self, file: BinaryIO) -> None:
        start = file.read(len(self._header))
        if start != self._header and not self._header.startswith(start):
            raise ResumeError(self._foreign(start + file.readline(_MAX_HEADER_BYTES)))
        end = file.tell() if start == self._header else 0
        while end and (frame := _read_frame(file)):
            end = file.tell()
            self.rows += len(frame.scores)
            self.finished = not len(frame.scores)
        file.truncate(end)

    def _foreign(self, header: bytes) -> str:
        try:
            before = dict(json.loads(header.partition(b"\n")[0]))
        except (ValueError, TypeError, RecursionError):
            before = {}
        if not before.keys() >= _VERSION.keys():
            return f"{self._path}: not a resume file of flipkd; move it away"
        now = self._identity
        key = next((key for key in [*now, *before] if before.get(key) != now.get(key)), "flipkd")
        return (
            f"{self._path}: the run that stopped had {key} {before.get(key)!r}, this one has {now.get(key)!r}; repeat "
            "its options to continue it, or pass --overwrite instead of --resume to start over"
        )

    def _write(self, scores: NDArray[np.float32], texts: bytes) -> None:
        if self._file is None:
            self._file = open_own_file(self._path, create=True)
        if self._file.seek(0, os.SEEK_END) == 0:
            self._file.write(self._header)
        content = np.ascontiguousarray(scores, dtype="<f4").tobytes()
        self._file.write(_FRAME.pack(len(scores), zlib.crc32(texts + content), texts) + content)
        # A kill does not reach what the operating system has received.
        self._file.flush()


def digest(pairs: Sequence[tuple[str, ...]]) -> bytes:
    """Return 16 bytes that identify a sequence of pairs, or of single texts."""
    texts = "\0".join([text for pair in pairs for text in pair])
    return hashlib.blake2b(texts.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _read_frame(file: BinaryIO) -> Frame | None:
    """Read the next frame; None at the end and for a frame that a kill has cut."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    rows, checksum, texts = _FRAME.unpack(head)
    if 4 * rows > os.fstat(file.fileno()).st_size - file.tell():
        return None  # A damaged number must not decide how much memory is allocated.
    content = file.read(4 * rows)
    if len(content) < 4 * rows or zlib.crc32(texts + content) != checksum:
        return None
    return Frame(np.frombuffer(content, "<f4"), texts)
