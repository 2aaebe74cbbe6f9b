"""Vectors of the texts of tables, kept beside the output until it is written, so that a run can be continued."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import click
import numpy as np

from flipkd_sdk.cli.console import resume_command, step_progress
from flipkd_sdk.cli.scoring.journal import Journal, ResumeError, digest
from flipkd_sdk.runtimes.linkage.decide import Decider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.cli.tables.open import TableOptions

_WINDOW = 256
"""Texts between two checkpoints and reports of progress: some tenths of a second of work."""


class Engine(Decider, Protocol):
    """Computation of vectors and scores, here or on many machines."""

    @property
    def dimension(self) -> int:
        """Length of the vectors."""

    @property
    def truncated(self) -> int:
        """Number of texts cut so far."""

    @property
    def identity(self) -> Mapping[str, str]:
        """All that decides the vectors and scores."""

    def encoded(self, windows: Iterable[list[str]]) -> Iterator[NDArray[np.float32]]:
        """Yield the unit vectors of each window of texts, in order."""


@contextmanager
def open_journal(
    path: Path | None, engine: Engine, options: Mapping[str, str], *, resume: bool
) -> Iterator[Journal | None]:
    """Open the journal of vectors; after an error, print how to go on.

    Args:
        path: the journal; None to keep nothing.
        engine: computes the vectors.
        options: options that choose the texts.
        resume: continue a run that stopped.

    Raises:
        ResumeError: that run was another one.
    """
    if path is None:
        yield None
        return
    if not resume:
        path.unlink(missing_ok=True)
    journal = Journal(path, {"vectors": str(engine.dimension), **engine.identity, **options})
    try:
        yield journal
    except BaseException:
        journal.close()
        if journal.rows:
            texts = journal.rows // engine.dimension
            click.echo(f"flipkd: {texts:,} texts are encoded; go on with: {resume_command()}", err=True)
        raise
    journal.discard()


def encode_texts(
    engine: Engine, texts: Sequence[str], journal: Journal | None, progress: Callable[[str, int, int], None]
) -> NDArray[np.float32]:
    """Return the unit vectors of distinct texts, shape (n, d).

    Args:
        engine: computes the vectors.
        texts: the texts.
        journal: vectors of an earlier run, to which the new ones are appended; None to keep none.
        progress: called with ``"encoding"``, the number of texts done and that of all.

    Raises:
        ResumeError: the earlier run's vectors are those of other texts.
    """
    vectors = np.empty((len(texts), engine.dimension), dtype=np.float32)
    done = 0
    for frame in journal.replay() if journal is not None else ():
        count = len(frame.scores) // engine.dimension
        if digest([(text,) for text in texts[done : done + count]]) != frame.digest:
            raise ResumeError(
                f"texts {done + 1:,} to {done + count:,} are not those that the run which stopped has encoded; name "
                "the same tables, or pass --overwrite instead of --resume to start over"
            )
        vectors[done : done + count] = frame.scores.reshape(count, engine.dimension)
        done += count
    windows = [list(texts[start : start + _WINDOW]) for start in range(done, len(texts), _WINDOW)]
    for window, found in zip(windows, engine.encoded(windows), strict=True):
        vectors[done : done + len(window)] = found
        if journal is not None:
            journal.append([(text,) for text in window], np.ravel(found))
        done += len(window)
        progress("encoding", done, len(texts))
    return vectors


class Encoding(NamedTuple):
    """Open engine of a run, and the encoding of texts with it."""

    engine: Engine
    progress: Callable[[str, int, int], None]
    vectors: Callable[[Sequence[str]], NDArray[np.float32]]
    """Returns the unit vectors of distinct texts; see `encode_texts`."""


@contextmanager
def open_encoding(
    start: Callable[[], AbstractContextManager[Engine]],
    kept: Path | None,
    readings: Sequence[TableOptions],
    *,
    resume: bool,
) -> Iterator[Encoding]:
    """Start an engine whose vectors are kept in a journal until the block ends without an error.

    Args:
        start: starts the engine.
        kept: the journal; None to keep nothing.
        readings: options for reading the tables, whose columns a continued run must share.
        resume: continue a run that stopped.

    Raises:
        ResumeError: that run was another one.
    """
    columns = {reading.texts[0].option: reading.texts[0].wanted for reading in readings}
    with (
        start() as engine,
        open_journal(kept, engine, columns, resume=resume) as journal,
        step_progress() as progress,
    ):
        yield Encoding(engine, progress, lambda texts: encode_texts(engine, texts, journal, progress))
