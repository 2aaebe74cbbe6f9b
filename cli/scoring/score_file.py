"""Scoring of one table of pairs, from file to file."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli.console import Stopwatch, note_blank_lines, print_run, resume_command, row_progress
from flipkd_sdk.cli.scoring.loop import Engine, Selection, score_rows
from flipkd_sdk.cli.tables.files import STANDARD_STREAM, check_output, is_plain_file, open_output
from flipkd_sdk.cli.tables.open import TableOptions, open_sink, open_source, rejects_file
from flipkd_sdk.cli.tables.sources import RejectRow, refuse_row
from flipkd_sdk.errors import OutputExistsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flipkd_sdk.cli.scoring.journal import Journal
    from flipkd_sdk.cli.tables.columns import Column, TextFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """Options for writing the scored rows."""

    added: Sequence[Column]
    """The columns of scores, of matches and, if asked for, of explanations."""
    form: TextFormat
    selection: Selection
    overwrite: bool
    resume: bool
    skip: bool
    """Skip rows that cannot be scored instead of stopping."""
    explain: bool = False
    """Fill the column of explanations."""
    as_json: bool = False
    """Print no line at the end, because the caller prints the figures as JSON."""


def score_file(
    table: str,
    out: str,
    start_engine: Callable[[], Engine],
    reading: TableOptions,
    writing: OutputOptions,
    *,
    rejects: str,
) -> dict[str, object]:
    """Score one table, print a line at the end, and return the figures of the run.

    With ``resume``, an output that exists without a journal beside it is complete and is not changed.

    Args:
        table: the file to read, or ``-``.
        out: the file to write, or ``-``.
        start_engine: called when the table is open and its columns are found.
        reading: options for reading the table.
        writing: options for writing the rows.
        rejects: file for the rows that are skipped.

    Raises:
        FlipKDError: the table or a row cannot be used, or an output exists already.
        OSError: an output cannot be written.
    """
    # Standard input cannot be read again, so its scores are not kept.
    kept = journal_path(out) if is_plain_file(out) and table != STANDARD_STREAM else None
    if writing.resume and is_complete(out, kept):
        return {"output": out, "complete_before": True}
    check_start(out, kept, overwrite=writing.overwrite, resume=writing.resume)
    with ExitStack() as stack:
        reject: RejectRow = refuse_row
        if writing.skip:
            reject = stack.enter_context(rejects_file(rejects, overwrite=writing.overwrite or writing.resume))
        source, encoding = stack.enter_context(open_source(table, reading, writing.added, reject))
        engine = start_engine()
        if writing.selection.familiarity:
            engine.familiarity([])  # A matcher without a sketch is refused before anything is written.
        # An earlier run may have been killed after it gave the output its name.
        replaceable = writing.overwrite or (writing.resume and kept is not None and os.path.lexists(kept))
        stream = stack.enter_context(open_output(out, overwrite=replaceable))
        journal = _open_journal(kept, engine, reading, writing) if kept else None
        if journal is not None:
            stack.enter_context(_kept_on_failure(journal, out))
            if not journal.finished:
                check_output(out, overwrite=writing.overwrite)
        watch, truncated = Stopwatch(), engine.truncated
        writer = open_sink(stream, out, source, encoding, writing.added, writing.form)
        with writer as sink, row_progress(source.total) as advance:
            counts = score_rows(
                source,
                sink,
                engine,
                journal=journal,
                selection=writing.selection,
                advance=advance,
                explain=writing.explain,
            )
        truncated = engine.truncated - truncated
        if journal is not None:
            journal.finish()
            journal.close()
    if journal is not None:
        journal.discard()  # Both outputs have their names now.
    note_blank_lines(table, source.blank_lines)
    rate = watch.rate(counts.rows)
    figures: dict[str, object] = {
        "output": out,
        "rows": counts.rows,
        "written": counts.written,
        "matches": counts.matches,
        "threshold": counts.threshold,
        "rows_per_second": round(rate, 1),
        "truncated_texts": truncated,
        "blank_rows": counts.blank,
    }
    if not writing.as_json:
        line = (
            f"{counts.rows:,} rows, {counts.matches:,} matches at {counts.threshold:.4f}, {rate:,.0f} rows/s, "
            f"{truncated:,} texts truncated, {counts.blank:,} rows with a blank text"
        )
        print_run(figures, line, as_json=False)
    return figures


def journal_path(out: str) -> Path:
    """Return the path of an output's journal."""
    target = Path(out).resolve()
    return target.with_name(f"{target.name}.resume")


def is_complete(out: str, kept: Path | None) -> bool:
    """Return True, and print it, if an output exists without a journal, so that there is nothing to resume."""
    complete = kept is not None and Path(out).is_file() and not os.path.lexists(kept)
    if complete:
        click.echo(f"flipkd: {out}: complete already; pass --overwrite instead of --resume to write it anew", err=True)
    return complete


def check_start(out: str, kept: Path | None, *, overwrite: bool, resume: bool) -> None:
    """Check early that an output may be written, with regard to the journal of a run that stopped.

    Raises:
        OutputExistsError: the output or the journal exists and no option allows for it.
        InvalidPairsError: see `check_output`.
    """
    stopped = kept is not None and os.path.lexists(kept)
    check_output(out, overwrite=overwrite or (resume and stopped))
    if stopped and not resume and not overwrite:
        raise OutputExistsError(
            f"{kept}: a run stopped here before its end; pass --resume to continue it, or --overwrite to start over"
        )


def _open_journal(kept: Path, engine: Engine, reading: TableOptions, writing: OutputOptions) -> Journal:
    from flipkd_sdk.cli.scoring.journal import Journal

    if not writing.resume:
        kept.unlink(missing_ok=True)
    return Journal(kept, {**engine.identity, **{text.option: text.wanted for text in reading.texts}})


@contextmanager
def _kept_on_failure(journal: Journal, out: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        journal.close()
        if journal.rows:
            click.echo(f"flipkd: {out}: {journal.rows:,} rows are scored; go on with: {resume_command()}", err=True)
        raise
