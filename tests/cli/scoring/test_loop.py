"""Scores are kept part by part, and rows are written chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from flipkd_sdk.cli.scoring.journal import Journal
from flipkd_sdk.cli.scoring.loop import Selection, score_rows
from flipkd_sdk.cli.tables.sources import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PAIRS = [(str(i), f"b{i}") for i in range(23)]


class Table:
    head: Any = None

    def __init__(self) -> None:
        self.at = 0

    def take(self, count: int) -> Chunk | None:
        rows = PAIRS[self.at : self.at + count]
        self.at += len(rows)
        return Chunk(rows, list(rows), self.at) if rows else None  # type: ignore[arg-type]


class Engine:
    threshold = 0.5

    def __init__(self, chunk: int, part: int, stop_after: int | None = None) -> None:
        self.chunk_rows, self.part_rows, self.stop_after = chunk, part, stop_after
        self.scored_parts: list[int] = []

    def scored(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, np.ndarray]]:
        for chunk in chunks:
            if len(self.scored_parts) == self.stop_after:
                raise KeyboardInterrupt
            self.scored_parts.append(len(chunk.pairs))
            yield chunk, np.array([int(a) / 23 for a, _ in chunk.pairs], np.float32)


class Sink:
    def __init__(self) -> None:
        self.written: list[list[tuple[str, float]]] = []

    def write(self, rows: Any, columns: Any) -> None:
        self.written.append([(a, round(score, 3)) for (a, _), score in zip(rows, columns[0], strict=True)])


def run(path: Path, engine: Engine) -> tuple[Sink, list[int]]:
    sink, advanced, journal = Sink(), [], Journal(path, {"a": "b"})
    try:
        counts = score_rows(
            Table(),  # type: ignore[arg-type]
            sink,  # type: ignore[arg-type]
            engine,  # type: ignore[arg-type]
            journal=journal,
            selection=Selection(),
            advance=lambda rows, _position: advanced.append(rows),
        )
        assert (counts.rows, counts.written, counts.matches) == (23, 23, 11)
    finally:
        journal.close()
    return sink, advanced


def test_a_chunk_is_scored_in_parts_and_written_whole(tmp_path: Path) -> None:
    engine = Engine(10, 4)
    sink, advanced = run(tmp_path / "j", engine)
    assert engine.scored_parts == advanced == [4, 4, 2, 4, 4, 2, 3]
    assert [len(rows) for rows in sink.written] == [10, 10, 3]
    assert [row for rows in sink.written for row in rows] == [(a, round(int(a) / 23, 3)) for a, _ in PAIRS]


@pytest.mark.parametrize("parts", range(7))
@pytest.mark.parametrize(("chunk", "part"), [(10, 4), (10, 3), (7, 20), (30, 1)])
def test_a_run_that_stopped_within_a_chunk_goes_on_there_and_writes_the_same_chunks(
    tmp_path: Path, parts: int, chunk: int, part: int
) -> None:
    whole = run(tmp_path / "whole", Engine(10, 23))[0].written
    first = Engine(10, 4, stop_after=parts)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "j", first)
    second = Engine(chunk, part)
    sink, advanced = run(tmp_path / "j", second)
    assert sum(first.scored_parts) + sum(second.scored_parts) == sum(advanced) == 23
    rows = [row for one in sink.written for row in one]
    assert rows == [row for one in whole for row in one]
    if chunk == 10:
        assert sink.written == whole
