"""Loop of ``flipkd score``: rows in, scores from an earlier run or an engine, rows out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flipkd_sdk.cli.scoring.journal import Journal, ResumeError, digest
from flipkd_sdk.cli.tables.sources import rows_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.cli.tables.sources import Chunk, Sink, Source

    Scored = tuple[Chunk, NDArray[np.float32]]


class Engine(Protocol):
    """Computation of scores."""

    @property
    def chunk_rows(self) -> int:
        """Return the number of rows of a full chunk."""

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


def score_rows(
    source: Source,
    sink: Sink,
    engine: Engine,
    *,
    journal: Journal | None,
    selection: Selection,
    advance: Callable[[int, int], None],
    explain: bool = False,
) -> int:
    """Score a table from its first row to its last.

    Args:
        source: the table.
        sink: receives the rows in their order.
        engine: computes the scores.
        journal: scores of an earlier run, to which the new ones are appended; None to keep none.
        selection: rows to be written, and the threshold.
        advance: called with the rows done since the last call, and the position in the source.
        explain: write an explanation of each row in a last column.

    Returns:
        The number of rows with a blank text.

    Raises:
        ResumeError: the earlier run's scores are those of other texts.
    """
    threshold = engine.threshold if selection.threshold is None else selection.threshold
    blank = 0
    for chunk, scores in _scored(source, engine, journal):
        # In float64, in which thresholds are chosen.
        exact = scores.astype(np.float64)
        matches = exact >= threshold
        columns = [exact, matches]
        if selection.familiarity:
            columns.append(engine.familiarity(chunk.pairs).astype(np.float64))
        rows, chosen = chunk.rows, selection.indices(exact, matches)
        if len(chosen) < len(exact):
            rows, columns = rows_at(rows, chosen), [column[chosen] for column in columns]
        explained = [engine.explain([chunk.pairs[row] for row in chosen.tolist()])] if explain else []
        sink.write(rows, (*(column.tolist() for column in columns), *explained))
        advance(len(scores), chunk.position)
        blank += chunk.blank_rows
    return blank


def _scored(source: Source, engine: Engine, journal: Journal | None) -> Iterator[Scored]:
    if journal is not None:
        yield from _replayed(source, journal)
    for chunk, scores in engine.scored(iter(lambda: source.take(engine.chunk_rows), None)):
        if journal is not None:
            journal.append(chunk.pairs, scores)
        yield chunk, scores


def _replayed(source: Source, journal: Journal) -> Iterator[Scored]:
    done = 0
    for frame in journal.replay():
        rows = len(frame.scores)
        chunks = list(_chunks(source, rows))
        if digest([pair for chunk in chunks for pair in chunk.pairs]) != frame.digest:
            raise ResumeError(
                f"{source.head.source}: rows {done + 1:,} to {done + rows:,} are not those that the run which stopped "
                "has scored; score the same table, or pass --overwrite instead of --resume to start over"
            )
        done += rows
        scores = frame.scores
        for chunk in chunks:
            yield chunk, scores[: len(chunk.pairs)]
            scores = scores[len(chunk.pairs) :]


def _chunks(source: Source, rows: int) -> Iterator[Chunk]:
    """Yield the next rows of a table; a chunk of long rows has fewer than were requested."""
    while rows and (chunk := source.take(rows)) is not None:
        yield chunk
        rows -= len(chunk.pairs)
