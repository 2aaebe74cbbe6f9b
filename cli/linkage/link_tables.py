"""Matching rows of two tables, from files to a file."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from flipkd_sdk.cli.console import Stopwatch
from flipkd_sdk.cli.linkage.encoding import open_encoding
from flipkd_sdk.cli.linkage.table import TextTable, read_texts
from flipkd_sdk.cli.tables.columns import Column
from flipkd_sdk.cli.tables.files import open_output
from flipkd_sdk.cli.tables.open import open_sink, open_source
from flipkd_sdk.cli.tables.sources import refuse_row, rows_at
from flipkd_sdk.runtimes.linkage.decide import least_score
from flipkd_sdk.runtimes.linkage.link import Links, Side, link_sides
from flipkd_sdk.runtimes.linkage.proposals import Search, check_search
from flipkd_sdk.tables.reader import find_column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.cli.linkage.run import RunOptions, StartEngine
    from flipkd_sdk.cli.tables.columns import Head
    from flipkd_sdk.cli.tables.open import TableOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """Options of the matches."""

    threshold: float | None
    """None for the matcher's."""
    top_k: int
    one_to_one: bool
    neighbours: int
    search: Search
    unmatched: bool
    """Write rows of the first table without a match too."""
    b_columns: Sequence[str]
    """Columns of the second table to write, by name or position; empty for all."""
    b_prefix: str
    score_column: str


def link_tables(
    a_path: str,
    b_path: str,
    start: StartEngine,
    readings: tuple[TableOptions, TableOptions],
    options: LinkOptions,
    run: RunOptions,
) -> None:
    """Write the matching rows of two tables.

    Args:
        a_path: the first table.
        b_path: the second table.
        start: starts the engine, after the tables are read.
        readings: options for reading the tables.
        options: options of the matches.
        run: the output, and what the run does with rows that cannot be used.

    Raises:
        FlipKDError: a table or a row cannot be used, or an output exists already.
        OSError: an output cannot be written.
    """
    if not run.start():
        return
    check_search(options.search)
    watch = Stopwatch()
    with ExitStack() as stack:
        with open_source(b_path, readings[1], (), refuse_row) as (source, _):
            names = _chosen(source.head, options)
        added = _added(names, options)
        rejects = [run.rejects or f"{run.out}.{side}-rejects.jsonl" for side in "ab"]
        a = read_texts(a_path, readings[0], added, stack.enter_context(run.rejecting(rejects[0])))
        b = read_texts(b_path, readings[1], (), stack.enter_context(run.rejecting(rejects[1])))
        engine, progress, encode = stack.enter_context(open_encoding(start, run.kept, readings, resume=run.resume))
        threshold = least_score(engine, options.threshold)
        sides = _encoded(a, b, encode)
        truncated = engine.truncated  # Scoring counts the texts of pairs again.
        links = link_sides(
            engine,
            *sides,
            threshold=threshold,
            top_k=options.top_k,
            one_to_one=options.one_to_one,
            neighbours=options.neighbours,
            search=options.search,
            progress=progress,
        )
        cells = stack.enter_context(tempfile.TemporaryFile())
        _write(a, links, _Cells(b, links, names, cells), added, options, run)
    matched = [len(np.unique(rows)) for rows in (links.a, links.b)]
    figures = {
        "output": run.out,
        "a_rows": a.rows,
        "b_rows": b.rows,
        "matches": len(links.a),
        "a_rows_matched": matched[0],
        "b_rows_matched": matched[1],
        "threshold": threshold,
        "rows_per_second": round(watch.rate(a.rows + b.rows), 1),
        "truncated_texts": truncated,
        "blank_rows": a.blank + b.blank,
    }
    run.finish(
        figures,
        f"{a.rows:,} and {b.rows:,} rows, {len(links.a):,} matches at {threshold:.4f}, {a.rows - matched[0]:,} and "
        f"{b.rows - matched[1]:,} rows without, {watch.rate(a.rows + b.rows):,.0f} rows/s, {truncated:,} texts "
        f"truncated, {a.blank + b.blank:,} rows with a blank text",
        (a, b),
    )


def _chosen(head: Head, options: LinkOptions) -> list[str]:
    """Return the names of the columns of the second table to write."""
    if not options.b_columns:
        return [*head.columns]
    if head.layout.format == "jsonl":
        return [*options.b_columns]
    return [find_column(name, head.columns, head.source) for name in options.b_columns]


def _added(names: Sequence[str], options: LinkOptions) -> tuple[Column, ...]:
    return (
        Column("a_row", "number"),
        Column("b_row", "number"),
        *(Column(options.b_prefix + name, "value", "--b-prefix") for name in names),
        Column(options.score_column, "score", "--score-column"),
    )


def _encoded(a: TextTable, b: TextTable, encode: Callable[[Sequence[str]], NDArray[np.float32]]) -> tuple[Side, Side]:
    """Encode the texts of both tables, a text that is in both once."""
    number = {text: i for i, text in enumerate(dict.fromkeys([*a.distinct.texts, *b.distinct.texts]))}
    vectors = encode([*number])
    own = len(a.distinct.texts)
    # The texts of the first table come first.
    return Side(a.distinct, vectors[:own]), Side(b.distinct, vectors[[number[text] for text in b.distinct.texts]])


class _Cells:
    """Values of the matched rows of the second table, in a temporary file, because they may not fit in memory.

    Args:
        table: the second table.
        links: the matches.
        names: columns to keep.
        file: receives the values.
    """

    def __init__(self, table: TextTable, links: Links, names: Sequence[str], file: IO[bytes]) -> None:
        self._file = file
        self._width = len(names)
        self._place = np.full(table.rows, -1, dtype=np.int64)
        needed = np.zeros(table.rows, dtype=np.bool_)
        needed[links.b] = True
        with table.reopened() as (_, _, chunks):
            for chunk, start in chunks:
                here = np.flatnonzero(needed[start : start + len(chunk.pairs)])
                for row, values in zip(here.tolist(), _values(rows_at(chunk.rows, here), names), strict=True):
                    self._place[start + row] = file.tell()
                    file.write(json.dumps(values, default=str).encode() + b"\n")

    def of(self, row: int | None) -> list[Any]:
        """Return the values of a row; empty ones for None."""
        if row is None:
            return [None] * self._width
        self._file.seek(int(self._place[row]))
        values: list[Any] = json.loads(self._file.readline())
        return values


def _values(rows: Any, names: Sequence[str]) -> Iterator[list[object]]:  # noqa: ANN401 - Chunk.rows
    records: Sequence[Mapping[str, object]]
    records = [record.cells for record in rows] if isinstance(rows, list) else rows.select(list(names)).to_pylist()
    return ([record.get(name) for name in names] for record in records)


def _write(
    table: TextTable, links: Links, cells: _Cells, added: Sequence[Column], options: LinkOptions, run: RunOptions
) -> None:
    with (
        table.reopened() as (source, encoding, chunks),
        open_output(run.out, overwrite=run.replaceable) as stream,
        open_sink(stream, run.out, source, encoding, added, run.form) as sink,
    ):
        for chunk, start in chunks:
            a, b, score = _rows_between(links, start, start + len(chunk.pairs), unmatched=options.unmatched)
            values = zip(*(cells.of(row) for row in b), strict=True) if len(b) else [()] * (len(added) - 3)
            numbers = [None if row is None else row + 1 for row in b]
            sink.write(rows_at(chunk.rows, a - start), ((a + 1).tolist(), numbers, *values, score))


def _rows_between(
    links: Links, start: int, end: int, *, unmatched: bool
) -> tuple[NDArray[np.int64], list[int | None], list[float | None]]:
    """Return the matches of some rows of the first table, and of each row without one a match with nothing."""
    first, last = np.searchsorted(links.a, [start, end])
    a, b = links.a[first:last], links.b[first:last].tolist()
    score = links.score[first:last].astype(np.float64).tolist()
    if not unmatched:
        return a, b, score
    alone = np.setdiff1d(np.arange(start, end), a)
    order = np.argsort(np.concatenate([a, alone]), kind="stable")
    a = np.concatenate([a, alone])[order]
    b, score = [*b, *[None] * len(alone)], [*score, *[None] * len(alone)]
    return a, [b[i] for i in order], [score[i] for i in order]
