"""Parquet tables, row group by row group: read, and written with a score and a match column more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flipkd_sdk.cli.tables.columns import Column, Head, Layout, TextSink, refuse_clash, refuse_twins, text_cells
from flipkd_sdk.cli.tables.files import STANDARD_STREAM
from flipkd_sdk.cli.tables.sources import Chunk, RejectRow, TextColumn
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.reader import BadRecord, Record, find_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BATCH_ROWS = 8192
_READ_BYTES = 1 << 20
_GROUP_ROWS = 1 << 17
_GROUP_BYTES = 1 << 26
"""A row group is written when it has that many rows or bytes in memory."""


_KINDS = {"score": pa.float32(), "flag": pa.bool_(), "number": pa.int64(), "text": pa.string()}


class ParquetSource:
    """A Parquet file of pairs.

    Args:
        path: the file; standard input cannot be read from its end, as Parquet is.
        texts: the columns of the two texts.
        added: columns that it must not have yet.
        reject: takes rows without a text.

    Raises:
        InvalidPairsError: the file or a column cannot be used.
    """

    def __init__(
        self, path: str, texts: tuple[TextColumn, TextColumn], *, added: Sequence[Column], reject: RejectRow
    ) -> None:
        self._file = _opened(path)
        schema = self._file.schema_arrow
        self.head = Head(path, Layout("parquet", ""), tuple(schema.names), "")
        self.schema: pa.Schema = schema
        self.total = int(self._file.metadata.num_rows)
        refuse_clash(added, self.head.columns, path)
        self._texts = tuple(text.name(lambda wanted: find_column(wanted, self.head.columns, path)) for text in texts)
        for name in self._texts:
            if not _is_text(schema.field(name).type):
                raise InvalidPairsError(f"{path}: column {name!r} holds {schema.field(name).type}; expected texts")
        self._reject = reject
        self._batches = self._read()
        self._rest: pa.RecordBatch | None = None
        self._done = 0

    def take(self, count: int) -> Chunk | None:
        """See `flipkd_sdk.cli.tables.sources.Source`."""
        taken: list[pa.RecordBatch] = []
        missing = count
        while missing and (batch := self._next_batch()) is not None:
            part, self._rest = batch.slice(0, missing), batch.slice(missing) if missing < len(batch) else None
            usable = self._usable(part)
            self._done += len(part)
            missing -= len(usable)
            taken.append(usable)
        if missing == count:
            return None
        table = pa.Table.from_batches(taken, self.schema)
        a, b = (table.column(name).cast(pa.large_string()).to_pylist() for name in self._texts)
        return Chunk(list(zip(a, b, strict=True)), table, self._done)

    def _next_batch(self) -> pa.RecordBatch | None:
        return next(self._batches, None) if self._rest is None else self._rest

    def _read(self) -> Iterator[pa.RecordBatch]:
        for group in range(self._file.num_row_groups):
            try:
                yield from self._file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group])
            except (pa.ArrowException, OSError) as error:
                where = f"{self.head.source}: row group {group}{self._broken_column(group)}"
                raise InvalidPairsError(f"{where}: cannot be read ({error})") from error

    def _broken_column(self, group: int) -> str:
        for name in self.head.columns:
            try:
                self._file.read_row_group(group, columns=[name])
            except (pa.ArrowException, OSError):
                return f", column {name!r}"
        return ""

    def _usable(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that have both texts; the others are rejected."""
        missing = [batch.column(name).is_null() for name in self._texts]
        either = pc.or_(*missing)
        for i in pc.indices_nonzero(either).to_pylist():
            name = self._texts[0] if missing[0][i].as_py() else self._texts[1]
            row = self._done + i + 1
            reason = f"{self.head.source}: row {row}: column {name!r}: null; expected a text"
            self._reject(BadRecord(row, str(batch.slice(i, 1).to_pylist()[0]), reason))
        return batch.filter(pc.invert(either)) if pc.any(either).as_py() else batch


class ParquetSink:
    """Writes rows with added columns to Parquet, scores as float32.

    Args:
        stream: where to, which stays the caller's to close.
        head: of the table.
        schema: of the table; None for a table of text, whose columns become strings.
        added: the columns.

    Raises:
        InvalidPairsError: two columns of a table of text share a name, or it has one of ``added`` already.
    """

    def __init__(self, stream: BinaryIO, head: Head, schema: pa.Schema | None, *, added: Sequence[Column]) -> None:
        self._head = head
        if schema is None:
            refuse_clash(added, head.columns, head.source)
            refuse_twins(head)
            schema = pa.schema([(name, pa.string()) for name in head.columns])
        self._own = schema
        self._schema = schema
        for column in added:
            self._schema = self._schema.append(pa.field(column.name, _KINDS[column.kind]))
        self._writer = pq.ParquetWriter(stream, self._schema)
        self._waiting: list[pa.Table] = []

    def write(self, rows: Any, columns: Sequence[Sequence[Any]]) -> None:  # noqa: ANN401 - Chunk.rows
        """Write rows with the values of the added columns."""
        table = rows if isinstance(rows, pa.Table) else self._from_text(rows)
        new = [
            pa.array(values, kind) for values, kind in zip(columns, self._schema.types[len(self._own) :], strict=True)
        ]
        self._waiting.append(pa.Table.from_arrays([*table.columns, *new], schema=self._schema))
        full = sum(map(len, self._waiting)) >= _GROUP_ROWS or sum(t.nbytes for t in self._waiting) >= _GROUP_BYTES
        if full:
            self._write_group()

    def close(self) -> None:
        """Write the last row group and the footer."""
        if self._waiting:
            self._write_group()
        self._writer.close()

    def abandon(self) -> None:
        """Keep pyarrow from writing a footer when the writer is forgotten, to a stream that is closed by then."""
        self._writer.is_open = False

    def _write_group(self) -> None:
        self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=_GROUP_ROWS)
        self._waiting.clear()

    def _from_text(self, records: Sequence[Record]) -> pa.Table:
        cells = [text_cells(record, self._head) for record in records]
        columns = zip(*cells, strict=True) if cells else ([] for _ in self._own)
        return pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=self._own)


class ParquetAsText:
    """Writes rows of a Parquet table to a sink of text."""

    def __init__(self, sink: TextSink) -> None:
        self._sink = sink

    def write(self, rows: pa.Table, columns: Sequence[Sequence[Any]]) -> None:
        """Write rows with the values of the added columns."""
        self._sink.write([Record(0, "", cells) for cells in rows.to_pylist()], columns)

    def close(self) -> None:
        """Complete what has been written."""
        self._sink.close()

    def abandon(self) -> None:
        """Write nothing more."""
        self._sink.abandon()


def _opened(path: str) -> pq.ParquetFile:
    if path == STANDARD_STREAM:
        raise InvalidPairsError("standard input: Parquet is read from its end; name a file")
    if not Path(path).is_file():
        raise InvalidPairsError(f"{path}: no such file")
    try:
        # With a buffer, pages are read one by one; without, a row group's columns are read whole.
        return pq.ParquetFile(path, buffer_size=_READ_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise InvalidPairsError(f"{path}: not a readable Parquet file ({error})") from error


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))
