"""Loop of ``flipkd score``: rows in, scores from an earlier run or an engine, rows out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flipkd_sdk.cli.scoring.journal import Journal, ResumeError, digest
from flipkd_sdk.cli.tables.sources import Chunk, rows_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.cli.tables.sources import Sink, Source

    Scored = tuple[Chunk, NDArray[np.float32]]
    Advance = Callable[[int, int], None]


class Engine(Protocol):
    """Computation of scores."""

    @property
    def chunk_rows(self) -> int:
        """Return the number of rows of a full chunk, which are read and written at a time."""

    @property
    def part_rows(self) -> int:
        """Return the number of rows to score at a time: their scores are kept for a run that continues."""

    @property
    def truncated(self) -> int:
        """Return the number of texts cut so far."""

    @property
    def threshold(self) -> float:
        """Return the least score of a match."""

    @property
    def identity(self) -> Mapping[str, str]:
        """Return all that decides a pair's score."""

    def scored(self, chunks: Iterable[Chunk]) -> Iterator[Scored]:
        """Yield each chunk with its scores, shape (rows,), in order; read little ahead."""

    def explain(self, pairs: list[tuple[str, str]]) -> list[str]:
        """Return the explanation of each pair in one line."""

    def familiarity(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the familiarity of each pair's less familiar text, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows to be written, and rows to be called matches."""

    score_cutoff: float | None = None
    """Least score; None for any."""
    only_matches: bool = False
    threshold: float | None = None
    """Least score of a match; None for the matcher's."""
    familiarity: bool = False
    """Write a third column, with the familiarity of the pair's less familiar text."""

    def indices(self, scores: NDArray[np.float64], matches: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the indices of those rows; shape (selected,)."""
        wanted = matches if self.only_matches else np.ones(len(scores), np.bool_)
        if self.score_cutoff is not None:
            wanted = wanted & (scores >= self.score_cutoff)
        return np.flatnonzero(wanted)


@dataclass(slots=True)
class Counts:
    """Numbers of rows of a run."""

    threshold: float
    rows: int = 0
    written: int = 0
    matches: int = 0
    blank: int = 0
    """Rows with a blank text."""


def score_rows(
    source: Source,
    sink: Sink,
    engine: Engine,
    *,
    journal: Journal | None,
    selection: Selection,
    advance: Advance,
    explain: bool = False,
) -> Counts:
    """Score a table from its first row to its last.

    Args:
        source: the table.
        sink: receives the rows in their order.
        engine: computes the scores.
        journal: scores of an earlier run, to which the new ones are appended; None to keep none.
        selection: rows to be written, and the threshold.
        advance: called with the rows done since the last call, and the position in the source.
        explain: write an explanation of each row in a last column.

    Raises:
        ResumeError: the earlier run's scores are those of other texts.
    """
    counts = Counts(engine.threshold if selection.threshold is None else selection.threshold)
    for chunk, scores in _scored(source, engine, journal, advance):
        # In float64, in which thresholds are chosen.
        exact = scores.astype(np.float64)
        matches = exact >= counts.threshold
        columns = [exact, matches]
        if selection.familiarity:
            columns.append(engine.familiarity(chunk.pairs).astype(np.float64))
        rows, chosen = chunk.rows, selection.indices(exact, matches)
        if len(chosen) < len(exact):
            rows, columns = rows_at(rows, chosen), [column[chosen] for column in columns]
        explained = [engine.explain([chunk.pairs[row] for row in chosen.tolist()])] if explain else []
        sink.write(rows, (*(column.tolist() for column in columns), *explained))
        counts.rows += len(exact)
        counts.written += len(chosen)
        counts.matches += int(matches.sum())
        counts.blank += chunk.blank_rows
    return counts


@dataclass(slots=True)
class _Waiting:
    """Chunk that is written when all its rows have scores.

    A chunk is read and written as a whole, because the bytes of Parquet and of compressed files depend on that; a run
    that continues then writes the same ones.
    """

    chunk: Chunk
    scores: NDArray[np.float32]
    done: int = 0
    """Number of rows with a score."""

    def parts(self, engine: Engine) -> Iterator[Chunk]:
        """Yield the pairs without a score, as many at a time as the engine wants."""
        start, pairs = self.done, self.chunk.pairs
        while start < len(pairs):
            part = pairs[start : start + engine.part_rows]
            start += len(part)
            yield Chunk(part, (), self.chunk.position)


def _scored(source: Source, engine: Engine, journal: Journal | None, advance: Advance) -> Iterator[Scored]:
    waiting: deque[_Waiting] = deque()

    def parts() -> Iterator[Chunk]:
        for left in list(waiting):
            yield from left.parts(engine)
        while _take(source, engine, waiting):
            yield from waiting[-1].parts(engine)

    if journal is not None:
        yield from _replayed(source, engine, journal, waiting, advance)
    for part, scores in engine.scored(parts()):
        if journal is not None:
            journal.append(part.pairs, scores)
        advance(len(scores), part.position)
        yield from _filled(waiting, scores)


def _replayed(
    source: Source, engine: Engine, journal: Journal, waiting: deque[_Waiting], advance: Advance
) -> Iterator[Scored]:
    """Yield the chunks whose rows all have scores of an earlier run; the last one may be left waiting."""
    done = 0
    for frame in journal.replay():
        rows = len(frame.scores)
        while sum(len(one.scores) - one.done for one in waiting) < rows and _take(source, engine, waiting):
            pass
        pairs = list(islice(chain.from_iterable(one.chunk.pairs[one.done :] for one in waiting), rows))
        if digest(pairs) != frame.digest:
            raise ResumeError(
                f"{source.head.source}: rows {done + 1:,} to {done + rows:,} are not those that the run which stopped "
                "has scored; score the same table, or pass --overwrite instead of --resume to start over"
            )
        done += rows
        advance(rows, waiting[-1].chunk.position)
        yield from _filled(waiting, frame.scores)


def _take(source: Source, engine: Engine, waiting: deque[_Waiting]) -> bool:
    """Read the next chunk; return False after the last one."""
    chunk = source.take(engine.chunk_rows)
    if chunk is not None:
        waiting.append(_Waiting(chunk, np.empty(len(chunk.pairs), np.float32)))
    return chunk is not None


def _filled(waiting: deque[_Waiting], scores: NDArray[np.float32]) -> Iterator[Scored]:
    """Give the next rows their scores; yield the chunks that have all of them now."""
    while len(scores):
        first = waiting[0]
        own = scores[: len(first.scores) - first.done]
        first.scores[first.done : first.done + len(own)] = own
        first.done += len(own)
        scores = scores[len(own) :]
        if first.done == len(first.scores):
            waiting.popleft()
            yield first.chunk, first.scores
