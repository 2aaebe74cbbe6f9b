"""Parquet tables: reading row group by row group, and writing with added columns."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flipkd_sdk.cli.tables.columns import (
    Column,
    Head,
    Layout,
    TextSink,
    encodable,
    refuse_clash,
    refuse_twins,
    text_cells,
    value_text,
)
from flipkd_sdk.cli.tables.files import STANDARD_STREAM
from flipkd_sdk.cli.tables.sources import Chunk, RejectRow, TextColumn
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.decoding import MAX_ROW_LENGTH
from flipkd_sdk.tables.reader import BadRecord, Record, find_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BATCH_ROWS = 8192
_READ_BYTES = 1 << 20
_GROUP_ROWS = 1 << 17
_GROUP_BYTES = 1 << 26
"""Rows, or bytes in memory, at which a row group is written."""
_BATCH_BYTES = 1 << 24
"""Bytes of a batch of rows whose values are all as long as the longest one that they may repeat."""
_BOMB_BYTES = 1 << 28
_BOMB_RATIO = 200
"""Bytes, and multiples of the file's size, beyond which a row group is refused if it exceeds both when unpacked."""

_READ_ERRORS = (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError)

_KINDS = {"score": pa.float32(), "flag": pa.bool_(), "number": pa.int64(), "text": pa.string(), "value": pa.string()}


class ParquetSource:
    """Parquet file of pairs.

    Args:
        path: the file; Parquet is read from its end, so standard input is refused.
        texts: the columns of the two texts.
        added: columns that it must not have yet.
        reject: receives rows without a text.
        max_row_length: bytes of the longest texts in a row.

    Raises:
        InvalidPairsError: the file or a column cannot be used.
    """

    def __init__(
        self,
        path: str,
        texts: tuple[TextColumn, TextColumn],
        *,
        added: Sequence[Column],
        reject: RejectRow,
        max_row_length: int = MAX_ROW_LENGTH,
    ) -> None:
        self._max_row_length = max_row_length
        self._file = _opened(path)
        self._size = Path(path).stat().st_size
        schema = self._file.schema_arrow
        self.head = Head(path, Layout("parquet", ""), tuple(schema.names), "")
        self.schema: pa.Schema = schema
        self.total = int(self._file.metadata.num_rows)
        refuse_clash(added, self.head.columns, path)
        self._texts = tuple(text.name(lambda wanted: find_column(wanted, self.head.columns, path)) for text in texts)
        for name in self._texts:
            if not _is_text(schema.field(name).type):
                raise InvalidPairsError(f"{path}: column {name!r} contains {schema.field(name).type}; expected texts")
        self._reject = reject
        self._batches = self._read()
        self._rest: pa.RecordBatch | None = None
        self._done = 0

    blank_lines = 0

    def take(self, count: int) -> Chunk | None:
        """Implement `Source.take`."""
        taken: list[pa.RecordBatch] = []
        pairs: list[tuple[str, str]] = []
        room = _BATCH_BYTES
        while len(pairs) < count and (room > 0 or not pairs) and (batch := self._next_batch()) is not None:
            missing = count - len(pairs)
            part, self._rest = batch.slice(0, missing), batch.slice(missing) if missing < len(batch) else None
            room -= part.nbytes
            usable, found = self._usable(part)
            self._done += len(part)
            pairs += found
            taken += usable
        if not pairs:
            return None
        return Chunk(pairs, pa.Table.from_batches(taken, self.schema), self._done)

    def _next_batch(self) -> pa.RecordBatch | None:
        return next(self._batches, None) if self._rest is None else self._rest

    def _read(self) -> Iterator[pa.RecordBatch]:
        for group in range(self._file.num_row_groups):
            self._refuse_bomb(group)
            try:
                longest = self._longest_repeated(group)
                rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, longest)))
                if longest <= self._max_row_length:
                    yield from self._file.iter_batches(batch_size=rows, row_groups=[group])
                    continue
            except _READ_ERRORS as error:
                where = f"{self.head.source}: row group {group}{self._broken_column(group)}"
                raise InvalidPairsError(f"{where}: cannot be read ({error})") from error
            raise InvalidPairsError(
                f"{self.head.source}: row group {group}: a row of {longest:,} bytes; raise the limit (--max-row-length)"
            )

    def _refuse_bomb(self, group: int) -> None:
        # The sizes of single columns are not read: pyarrow ends the process if their metadata is damaged.
        unpacked, packed = self._file.metadata.row_group(group).total_byte_size, self._size
        if unpacked > max(_BOMB_BYTES, _BOMB_RATIO * packed):
            raise InvalidPairsError(
                f"{self.head.source}: row group {group}: unpacks to {unpacked:,} bytes from a file of {packed:,}; "
                "write the file again with smaller row groups"
            )

    def _longest_repeated(self, group: int) -> int:
        """Return the bytes of the longest values that all rows of a group may repeat, summed over its columns."""
        if not self._repeating:
            return 0
        first = next(self._dictionaries.iter_batches(1, row_groups=[group], columns=self._repeating), None)
        if first is None:
            return 0
        values = [column.dictionary for column in first.columns if pa.types.is_dictionary(column.type)]
        return sum(pc.max(pc.binary_length(value)).as_py() or 0 for value in values)

    @cached_property
    def _repeating(self) -> list[str]:
        """Return the columns of texts and bytes that are not nested."""
        leaves = [self._file.schema.column(i) for i in range(len(self._file.schema))]
        return [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.path in self.head.columns]

    @cached_property
    def _dictionaries(self) -> pq.ParquetFile:
        """Open the file with its columns as dictionaries, which contain repeated values once."""
        return pq.ParquetFile(self.head.source, read_dictionary=self._repeating, buffer_size=_READ_BYTES)

    def _broken_column(self, group: int) -> str:
        for name in self.head.columns:
            try:
                self._file.read_row_group(group, columns=[name])
            except _READ_ERRORS:
                return f", column {name!r}"
        return ""

    def _usable(self, batch: pa.RecordBatch) -> tuple[list[pa.RecordBatch], list[tuple[str, str]]]:
        """Return the rows that have both texts, and these; the others are rejected."""
        a, b = (_decoded(batch.column(name)) for name in self._texts)
        usable: list[int] = []
        pairs: list[tuple[str, str]] = []
        for i, texts in enumerate(zip(a, b, strict=True)):
            if isinstance(texts[0], str) and isinstance(texts[1], str):
                usable.append(i)
                pairs.append((texts[0], texts[1]))
                continue
            name, value = next((n, t) for n, t in zip(self._texts, texts, strict=True) if not isinstance(t, str))
            row = self._done + i + 1
            problem = "null" if value is None else "bytes that are not UTF-8"
            reason = f"{self.head.source}: row {row}: column {name!r}: {problem}; expected a text"
            self._reject(BadRecord(row, _row_text(batch.slice(i, 1)), reason))
        return [batch] if len(usable) == len(batch) else _selected(batch, usable), pairs


class ParquetSink:
    """Writes rows with added columns to Parquet, scores as float32.

    Args:
        stream: receives the bytes; the caller closes it.
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
            schema = pa.schema([(encodable(name), pa.string()) for name in head.columns])
        self._own = schema
        self._schema = schema
        for column in added:
            self._schema = self._schema.append(pa.field(column.name, _KINDS[column.kind]))
        self._added_types = self._schema.types[len(self._own) :]
        with self._naming():
            self._writer = pq.ParquetWriter(stream, self._schema)
        self._waiting: list[pa.Table] = []

    def write(self, rows: Any, columns: Sequence[Sequence[Any]]) -> None:  # noqa: ANN401 - Chunk.rows
        """Write rows with the values of the added columns."""
        table = rows if isinstance(rows, pa.Table) else self._from_text(rows)
        new = [_added_array(values, kind) for values, kind in zip(columns, self._added_types, strict=True)]
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
        """Keep pyarrow from writing a footer when the writer is garbage-collected, to a stream closed by then."""
        self._writer.is_open = False

    def _write_group(self) -> None:
        with self._naming():
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=_GROUP_ROWS)
        self._waiting.clear()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowException as error:
            raise InvalidPairsError(f"{self._head.source}: cannot be written as Parquet ({error})") from error

    def _from_text(self, records: Sequence[Record]) -> pa.Table:
        cells = [text_cells(record, self._head) for record in records]
        columns = zip(*cells, strict=True) if cells else ([] for _ in self._own)
        return pa.Table.from_arrays([_text_array(column) for column in columns], schema=self._own)


class ParquetAsText:
    """Writes rows of a Parquet table to a sink of text."""

    def __init__(self, sink: TextSink, source: str) -> None:
        self._sink = sink
        self._source = source

    def write(self, rows: pa.Table, columns: Sequence[Sequence[Any]]) -> None:
        """Write rows with the values of the added columns."""
        try:
            cells = rows.to_pylist()
        except UnicodeDecodeError as error:
            raise InvalidPairsError(
                f"{self._source}: a column contains bytes that are not UTF-8; write Parquet, or remove the column"
            ) from error
        except (ValueError, OverflowError) as error:
            raise InvalidPairsError(
                f"{self._source}: a column contains a value outside Python's range ({error}); "
                "write Parquet, or remove the column"
            ) from error
        self._sink.write([Record(0, "", row) for row in cells], columns)

    def close(self) -> None:
        """Complete what has been written."""
        self._sink.close()

    def abandon(self) -> None:
        """Write nothing more."""
        self._sink.abandon()


def _added_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return _text_array([value_text(value) for value in values]) if kind == pa.string() else pa.array(values, kind)


def _text_array(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([value and encodable(value) for value in values], pa.string())


def _opened(path: str) -> pq.ParquetFile:
    if path == STANDARD_STREAM:
        raise InvalidPairsError("standard input: Parquet is read from its end; name a file")
    if not Path(path).is_file():
        raise InvalidPairsError(f"{path}: no such file")
    try:
        # With a buffer, pages are read one by one; without, a row group's columns are read whole.
        return pq.ParquetFile(path, buffer_size=_READ_BYTES)
    except _READ_ERRORS as error:
        raise InvalidPairsError(f"{path}: not a readable Parquet file ({error})") from error


def _selected(batch: pa.RecordBatch, indices: Sequence[int]) -> list[pa.RecordBatch]:
    try:
        return [batch.take(pa.array(indices, pa.int64()))]
    except pa.ArrowNotImplementedError:  # pyarrow takes no values of string views.
        return [batch.slice(index, 1) for index in indices]


def _decoded(column: pa.Array) -> list[str | bytes | None]:
    """Return the texts of a column; a value that is not UTF-8 stays bytes."""
    texts = column.cast(pa.large_string())
    try:
        return texts.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return [_text_or_bytes(value) for value in texts.cast(pa.large_binary()).to_pylist()]


def _text_or_bytes(value: bytes | None) -> str | bytes | None:
    try:
        return value if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _row_text(row: pa.RecordBatch) -> str:
    try:
        return str(row.to_pylist()[0])
    except (ValueError, OverflowError):  # Bytes that are not UTF-8, or a date before the year 1 or after 9999.
        return repr([_decoded(column)[0] for column in row.columns if _is_text(column.type)])


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))
