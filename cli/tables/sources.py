"""Tables of pairs, read some rows at a time with the two texts of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from flipkd_sdk.cli.tables.columns import Column, Head, refuse_clash
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.reader import BadRecord, Record, Records

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

RejectRow = Callable[[BadRecord], None]
"""Receives a row that cannot be scored; raises if such a row must not be skipped."""

_CHUNK_CHARACTERS = 1 << 24
"""A chunk of longer text has fewer rows, so that long rows do not fill the memory."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """Column of texts that the user has chosen."""

    wanted: str
    """Its name or position."""
    option: str
    """The option that sets it."""

    def name(self, find: Callable[[str], str]) -> str:
        """Return the name of the column.

        Args:
            find: returns the name of a column given by name or position.

        Raises:
            InvalidPairsError: the table has no such column.
        """
        try:
            return find(self.wanted)
        except InvalidPairsError as error:
            raise InvalidPairsError(f"{error}; name it with {self.option}") from None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows."""

    pairs: list[tuple[str, str]]
    """The two texts of each."""
    rows: Sequence[Record] | pa.Table
    """The rows in the table's own form."""
    position: int
    """Part of the source's ``total`` that is read."""

    @property
    def blank_rows(self) -> int:
        """Return the number of rows of which a text is empty or white space."""
        return sum(not a or not b or a.isspace() or b.isspace() for a, b in self.pairs)


class Source(Protocol):
    """Table of pairs."""

    @property
    def head(self) -> Head:
        """Return its header and format."""

    @property
    def total(self) -> int | None:
        """Return its size, in a unit of its own; None if unknown."""

    @property
    def blank_lines(self) -> int:
        """Return the number of blank lines so far."""

    def take(self, count: int) -> Chunk | None:
        """Return the next rows: ``count`` of them, fewer if they are long or the last; None after the last.

        Raises:
            InvalidPairsError: a row cannot be scored and must not be skipped.
        """


class TextSource:
    """CSV or JSONL table.

    Args:
        records: the table.
        texts: the columns of the two texts.
        added: columns that the rows must not have yet.
        reject: receives rows that cannot be scored.
        total: size of the file in bytes, if known.
        position: returns the number of bytes read.
    """

    def __init__(
        self,
        records: Records,
        texts: tuple[TextColumn, TextColumn],
        *,
        added: Sequence[Column],
        reject: RejectRow,
        total: int | None,
        position: Callable[[], int],
    ) -> None:
        self.head = Head.of(records)
        self.total = total
        self._records = records
        self._a, self._b = (text.name(records.column) for text in texts)
        self._added = added
        self._reject = reject
        self._position = position

    @property
    def blank_lines(self) -> int:
        """Return the number of blank lines so far."""
        return self._records.lines.blank

    def take(self, count: int) -> Chunk | None:
        """Implement `Source.take`."""
        rows: list[Record] = []
        pairs: list[tuple[str, str]] = []
        room = _CHUNK_CHARACTERS
        free_form = self._records.format == "jsonl"
        for record in self._records.rows:
            try:
                if free_form:
                    refuse_clash(self._added, record.cells, f"{self._records.source}:{record.line}")
                pairs.append((self._records.text(record, self._a), self._records.text(record, self._b)))
            except InvalidPairsError as error:
                self._reject(BadRecord(record.line, record.raw, str(error)))
                continue
            rows.append(record)
            room -= len(record.raw)
            if len(rows) == count or room <= 0:
                break
        return Chunk(pairs, rows, self._position()) if rows else None


def rows_at(
    rows: Sequence[Record] | pa.Table, indices: Sequence[int] | NDArray[np.int64]
) -> Sequence[Record] | pa.Table:
    """Return the rows of a chunk at the given indices, in that order."""
    if isinstance(rows, Sequence):
        return [rows[i] for i in indices]
    try:
        return rows.take(indices)
    except NotImplementedError:  # pyarrow takes no values of string views.
        import pyarrow as pa

        return pa.concat_tables([rows.slice(0, 0), *(rows.slice(int(i), 1) for i in indices)])


def refuse_row(bad: BadRecord) -> None:
    """Raise on the first row that cannot be scored."""
    raise InvalidPairsError(bad.reason)


class Sink(Protocol):
    """Receiver of rows and their added columns."""

    def write(self, rows: Any, columns: Sequence[Sequence[Any]]) -> None:  # noqa: ANN401 - Chunk.rows
        """Write rows with the values of the added columns, column by column."""

    def close(self) -> None:
        """Complete what has been written."""

    def abandon(self) -> None:
        """Write nothing more after a failure."""
