"""A table that is read twice: first its texts, then its rows, to be written with what was found."""

from __future__ import annotations

from array import array
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.cli.tables.columns import refuse_clash
from flipkd_sdk.cli.tables.files import STANDARD_STREAM
from flipkd_sdk.cli.tables.open import open_source
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flipkd_sdk.cli.tables.columns import Column, Head
    from flipkd_sdk.cli.tables.open import TableOptions
    from flipkd_sdk.cli.tables.sources import Chunk, RejectRow, Source
    from flipkd_sdk.tables.reader import BadRecord

_CHUNK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table and the texts of its rows."""

    path: str
    reading: TableOptions
    added: Sequence[Column]
    """Columns that it must not have."""
    head: Head
    distinct: DistinctTexts
    blank: int
    """Number of rows with an empty or blank text."""
    blank_lines: int

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.distinct.index)

    @contextmanager
    def reopened(self) -> Iterator[tuple[Source, str, Iterator[tuple[Chunk, int]]]]:
        """Open the table again; yields it, its encoding, and its chunks with the number of rows before each.

        Raises:
            InvalidPairsError: the table has changed.
        """
        # The rows that were rejected before are so again, and are noted already.
        with open_source(self.path, self.reading, self.added, _ignore) as (source, encoding):
            yield source, encoding, self._chunks(source)

    def _chunks(self, source: Source) -> Iterator[tuple[Chunk, int]]:
        texts, index = self.distinct.texts, self.distinct.index
        row = 0
        while chunk := source.take(_CHUNK_ROWS):
            own = index[row : row + len(chunk.pairs)].tolist()
            if len(own) < len(chunk.pairs) or any(
                text != texts[i] for (text, _), i in zip(chunk.pairs, own, strict=True)
            ):
                raise InvalidPairsError(self._changed(row))
            yield chunk, row
            row += len(own)
        if row < len(index):
            raise InvalidPairsError(self._changed(row))

    def _changed(self, row: int) -> str:
        return f"{self.path}: changed during the run, at row {row + 1:,} or later; leave it as it is and run again"


def read_texts(path: str, reading: TableOptions, added: Sequence[Column], reject: RejectRow) -> TextTable:
    """Read the texts of a table.

    Args:
        path: the file.
        reading: options for reading it, with its column of texts twice.
        added: columns that it must not have.
        reject: receives rows that cannot be used.

    Raises:
        InvalidPairsError: the table, the column or a row cannot be used, or the table is standard input.
    """
    if path == STANDARD_STREAM:
        raise InvalidPairsError("standard input: the table is read twice; write it to a file first")
    numbers: dict[str, int] = {}
    index = array("q")
    blank = 0
    with open_source(path, reading, added, reject) as (source, _):
        refuse_clash(added, source.head.columns, path)
        while chunk := source.take(_CHUNK_ROWS):
            index.extend(numbers.setdefault(text, len(numbers)) for text, _ in chunk.pairs)
            blank += chunk.blank_rows
        distinct = DistinctTexts(list(numbers), np.array(index, dtype=np.int64), f"{path}: text {{}}".format)
        return TextTable(path, reading, added, source.head, distinct, blank, source.blank_lines)


def _ignore(_bad: BadRecord) -> None:
    """Skip a row."""
