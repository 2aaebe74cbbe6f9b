"""The loop of ``flipkd score``: rows in, scores from an earlier run or an engine, rows out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flipkd_sdk.cli.scoring.journal import Journal, ResumeError, digest
from flipkd_sdk.cli.tables.sources import rows_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from flipkd_sdk.cli.tables.sources import Chunk, Sink, Source

    Scored = tuple[Chunk, NDArray[np.float32]]


class Engine(Protocol):
    """Computes scores."""

    @property
    def chunk_rows(self) -> int:
        """How many rows it takes at a time."""

    @property
    def threshold(self) -> float:
        """Score from which on a pair is a match."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What decides a pair's score."""

    def scored(self, chunks: Iterable[Chunk]) -> Iterator[Scored]:
        """Each chunk with its scores, shape (rows,), in order; reads little ahead."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are written."""

    score_cutoff: float | None = None
    """Least score; None for any."""
    only_matches: bool = False

    def places(self, scores: NDArray[np.float64], matches: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Places of those rows; shape (selected,)."""
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
) -> None:
    """Score a table from its first row to its last.

    Args:
        source: the table.
        sink: where the rows go, in their order.
        engine: computes the scores.
        journal: scores that an earlier run has left, and where to keep more; None to keep none.
        selection: which rows are written.
        advance: called with the rows done since the last call, and how much of the source is read.

    Raises:
        ResumeError: the earlier run's scores are those of other texts.
    """
    for chunk, scores in _scored(source, engine, journal):
        # In float64, in which thresholds are chosen.
        exact = scores.astype(np.float64)
        matches = exact >= engine.threshold
        rows, places = chunk.rows, selection.places(exact, matches)
        if len(places) < len(exact):
            rows, exact, matches = rows_at(rows, places), exact[places], matches[places]
        sink.write(rows, (exact.tolist(), matches.tolist()))
        advance(len(scores), chunk.position)


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
        chunk = source.take(len(frame.scores))
        if chunk is None or digest(chunk.pairs) != frame.digest:
            raise ResumeError(
                f"{source.head.source}: rows {done + 1:,} to {done + len(frame.scores):,} are not those that the run "
                "which stopped has scored; score the same table, or pass --overwrite instead of --resume to start over"
            )
        done += len(frame.scores)
        yield chunk, frame.scores
