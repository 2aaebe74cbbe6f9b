"""The lines of a file of user data: found, unpacked where they are gzipped, and checked to be text."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from flipkd_sdk.errors import InvalidPairsError

if TYPE_CHECKING:
    from collections.abc import Callable

BYTE_ORDER_MARK = "\ufeff"

_HEAD_BYTES = 1 << 16
"""Bytes of a file that can be looked at before it is read."""
_GZIP_MAGIC = b"\x1f\x8b"
_SURROGATE = re.compile("[\ud800-\udfff]")


class BadLineError(InvalidPairsError):
    """A line that is not text; reading can go on with the next one."""


def open_binary(path: str | Path) -> io.BufferedReader:
    """Open a file of user data.

    Raises:
        InvalidPairsError: it is missing, a directory or unreadable.
    """
    try:
        return io.BufferedReader(Path(path).open("rb", buffering=0), _HEAD_BYTES)
    except FileNotFoundError:
        raise InvalidPairsError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InvalidPairsError(f"{path}: a directory; expected a file") from None
    except OSError as error:
        raise InvalidPairsError(f"{path}: cannot be read ({error.strerror})") from error


class PlainStream(io.BufferedIOBase):
    """The bytes of a stream, gunzipped if they are gzipped; closing it leaves the stream itself open.

    Args:
        stream: read from its current place on.
        source: what messages call it.
    """

    name = "plain"

    def __init__(self, stream: io.BufferedReader, source: str) -> None:
        self._source = source
        self._stream: io.BufferedReader | gzip.GzipFile = stream
        if self._guarded(stream.peek, 2)[:2] == _GZIP_MAGIC:
            self._stream = gzip.GzipFile(fileobj=stream)

    def readable(self) -> bool:
        """Always true; `io.TextIOWrapper` asks."""
        return True

    def read1(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, by as few reads as possible; empty at the end."""
        return self._guarded(self._stream.read1, size)

    def peek(self) -> bytes:
        """Some bytes that come next, without reading on; empty at the end only."""
        return self._guarded(self._stream.peek, _HEAD_BYTES)

    def _guarded(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            return read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidPairsError(f"{self._source}: cannot be read to its end ({error})") from error


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
            # Where this codec would read on is anybody's guess, so it is no `BadLineError`.
            raise InvalidPairsError(self._undecodable()) from error
        if self.number == 1 and line.startswith(BYTE_ORDER_MARK):
            self.marked = True
            line = line[1:]
        self.kept.append(line)
        if not line.isascii() and _SURROGATE.search(line):
            raise BadLineError(self._undecodable())
        if "\0" in line:
            raise BadLineError(f"{self.source}:{self.number}: NUL character; is this a UTF-16 or a binary file?")
        return line

    def take(self) -> str:
        """The text of the lines kept so far, which are then forgotten."""
        raw = "".join(self.kept)
        self.kept.clear()
        return raw

    def _undecodable(self) -> str:
        return (
            f"{self.source}:{self.number}: not {self._encoding} text; name the file's encoding (often cp1252 or "
            "utf-16 for spreadsheets) or convert it"
        )


class _Borrowed(io.BufferedIOBase):
    """A stream that a `TextIOWrapper` reads from but does not close when it is forgotten."""

    name = "borrowed"

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        return self._stream.read1(size)
