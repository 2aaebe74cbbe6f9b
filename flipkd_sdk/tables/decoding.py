"""Lines of user data: a file is opened, gunzipped if need be, decoded, and checked to be text of bounded length."""

from __future__ import annotations

import codecs
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
MAX_ROW_LENGTH = 1 << 24
"""Characters of the longest row, its line ends included. Without a limit one line could fill the memory."""

_HEAD_BYTES = 1 << 16
"""Bytes of a file that can be inspected before it is read."""
_GZIP_MAGIC = b"\x1f\x8b"
_WORKBOOK_MAGIC = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of Excel and OpenDocument workbooks, which are zip archives, and of older Excel workbooks."""
SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs: undecodable bytes, or escapes in JSON."""
_UNDECODABLE = "surrogateescape"
"""Error handler that turns undecodable bytes into surrogates, which mark the line that contains them."""
_PROBE = "a,1\r\n"


class BadLineError(InvalidPairsError):
    """A line that is not text; reading can continue with the next one."""


def open_binary(path: str | Path) -> io.BufferedReader:
    """Open a file of user data.

    Raises:
        InvalidPairsError: the file is missing, a directory or unreadable.
    """
    try:
        return io.BufferedReader(Path(path).open("rb", buffering=0), _HEAD_BYTES)
    except FileNotFoundError:
        raise InvalidPairsError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InvalidPairsError(f"{path}: a directory; expected a file") from None
    except OSError as error:
        raise InvalidPairsError(f"{path}: cannot be read ({error.strerror})") from error


def is_text_encoding(name: str) -> bool:
    """Return whether Python can read and write tables in an encoding; it cannot in ``idna`` and ``undefined``."""
    try:
        encoded = _PROBE.encode(name, "backslashreplace")
        return codecs.getincrementaldecoder(name)(_UNDECODABLE).decode(encoded, final=True) == _PROBE
    except (LookupError, ValueError):
        return False


class PlainStream(io.BufferedIOBase):
    """Bytes of a stream, gunzipped if they are gzipped; closing it leaves the stream open.

    Args:
        stream: read from its current position on.
        source: its name in messages.

    Raises:
        InvalidPairsError: the stream is a workbook of a spreadsheet program.
    """

    name = "plain"

    def __init__(self, stream: io.BufferedReader, source: str) -> None:
        self._source = source
        self._stream: io.BufferedReader | gzip.GzipFile = stream
        magic = self._guarded(stream.peek, 4)[:4]
        if magic.startswith(_WORKBOOK_MAGIC):
            raise InvalidPairsError(
                f"{source}: a workbook or a zip archive; save the sheet as 'CSV UTF-8' in the spreadsheet program"
            )
        if magic[:2] == _GZIP_MAGIC:
            self._stream = gzip.GzipFile(fileobj=stream)

    def readable(self) -> bool:
        """Return True, which `io.TextIOWrapper` requires."""
        return True

    def read1(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes by as few reads as possible; empty at the end."""
        return self._guarded(self._stream.read1, size)

    def peek(self) -> bytes:
        """Return some of the next bytes without advancing; empty at the end only."""
        return self._guarded(self._stream.peek, _HEAD_BYTES)

    def _guarded(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            return read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidPairsError(f"{self._source}: cannot be read to its end ({error})") from error


class Lines:
    """Lines of a binary stream, checked to be text, and kept until their record is complete.

    Args:
        stream: the bytes.
        source: its name in messages.
        encoding: of the text.
        max_length: characters of the longest record.
    """

    def __init__(
        self, stream: io.BufferedIOBase, source: str, encoding: str, *, max_length: int = MAX_ROW_LENGTH
    ) -> None:
        if not is_text_encoding(encoding):
            raise InvalidPairsError(f"{source}: {encoding!r} is no text encoding; use a name such as utf-8 or cp1252")
        self.source = source
        self.number = 0
        """1-based number of the line read last."""
        self.blank = 0
        """Number of blank lines, which the reader counts."""
        self.marked = False
        """True if the text begins with a byte order mark."""
        self._kept: list[str] = []
        self._room = self._max_length = max_length
        self._text = io.TextIOWrapper(_Borrowed(stream), encoding, errors=_UNDECODABLE, newline="")
        self._encoding = encoding

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        self.number += 1
        try:
            line = self._text.readline(self._max_length + 1)
        except UnicodeError as error:
            # The codec does not define where it would continue, so this is no `BadLineError`.
            raise InvalidPairsError(self._undecodable()) from error
        if not line:
            raise StopIteration
        if self.number == 1 and line.startswith(BYTE_ORDER_MARK):
            self.marked = True
            line = line[1:]
        self._kept.append(line)
        self._check_length(line)
        if not line.isascii() and SURROGATE.search(line):
            raise BadLineError(self._undecodable())
        if "\0" in line:
            raise BadLineError(self._binary())
        return line

    def take(self) -> str:
        """Return the text of the lines kept so far and forget it."""
        raw = "".join(self._kept)
        self._kept.clear()
        self._room = self._max_length
        return raw

    def _check_length(self, line: str) -> None:
        self._room -= len(line)
        if self._room >= 0:
            return
        # Reading can continue with the next line, unless the end of this one has not been found.
        kind = InvalidPairsError if len(line) > self._max_length else BadLineError
        if "\0" in line:
            raise kind(self._binary())
        raise kind(
            f"{self.source}:{self.number}: a row of more than {self._max_length:,} characters; check the line ends "
            "and the quotation marks (score and rank accept longer rows with --max-row-length)"
        )

    def _binary(self) -> str:
        return f"{self.source}:{self.number}: NUL character; is this a UTF-16 or a binary file?"

    def _undecodable(self) -> str:
        return (
            f"{self.source}:{self.number}: not {self._encoding} text; name the file's encoding (often cp1252 or "
            "utf-16 for spreadsheets) or convert it"
        )


class _Borrowed(io.BufferedIOBase):
    """Stream that a `TextIOWrapper` reads but does not close when it is garbage-collected."""

    name = "borrowed"

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        return self._stream.read1(size)
