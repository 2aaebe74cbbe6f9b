"""Tables of pairs as they are read: some rows at a time, with the two texts of each."""

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
"""Takes a row that cannot be scored; raises where it must not be left out."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column of texts, as the user called it."""

    wanted: str
    """Its name or position."""
    option: str
    """The option that names it."""

    def name(self, find: Callable[[str], str]) -> str:
        """Its name.

        Args:
            find: gives the name of a column that is wanted.

        Raises:
            InvalidPairsError: there is no such column.
        """
        try:
            return find(self.wanted)
        except InvalidPairsError as error:
            raise InvalidPairsError(f"{error}; name it with {self.option}") from None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows in turn."""

    pairs: list[tuple[str, str]]
    """The two texts of each."""
    rows: Sequence[Record] | pa.Table
    """The rows as the table holds them."""
    position: int
    """How much of the source's ``total`` is read."""


class Source(Protocol):
    """A table of pairs."""

    @property
    def head(self) -> Head:
        """What is known before its rows are read."""

    @property
    def total(self) -> int | None:
        """Its size, in a unit of its own; None if unknown."""

    def take(self, count: int) -> Chunk | None:
        """The next rows, ``count`` of them or, at the end, fewer; None after the last.

        Raises:
            InvalidPairsError: a row cannot be scored and must not be left out.
        """


class TextSource:
    """A CSV or JSONL table.

    Args:
        records: the table.
        texts: the columns of the two texts.
        added: columns that the rows must not have yet.
        reject: takes rows that cannot be scored.
        total: size of the file in bytes, if known.
        position: tells how many of them are read.
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

    def take(self, count: int) -> Chunk | None:
        """See `Source`."""
        rows: list[Record] = []
        pairs: list[tuple[str, str]] = []
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
            if len(rows) == count:
                break
        return Chunk(pairs, rows, self._position()) if rows else None


def rows_at(
    rows: Sequence[Record] | pa.Table, places: Sequence[int] | NDArray[np.int64]
) -> Sequence[Record] | pa.Table:
    """The rows of a chunk at some places, in that order."""
    return [rows[i] for i in places] if isinstance(rows, Sequence) else rows.take(places)


def refuse_row(bad: BadRecord) -> None:
    """Reject no row: one that cannot be scored stops the run."""
    raise InvalidPairsError(bad.reason)


class Sink(Protocol):
    """Where rows go that columns are added to."""

    def write(self, rows: Any, columns: Sequence[Sequence[Any]]) -> None:  # noqa: ANN401 - Chunk.rows
        """Write rows with the values of the added columns, column by column."""

    def close(self) -> None:
        """Complete what has been written."""

    def abandon(self) -> None:
        """Write nothing more, because something failed."""
