"""Output for a person at a terminal: warnings, progress, and figures in columns."""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


def warnings_once() -> logging.Handler:
    """Return a handler that prints each kind of warning to stderr once, and not again for every chunk."""
    seen: set[str] = set()

    def first_of_its_kind(record: logging.LogRecord) -> bool:
        new = str(record.msg) not in seen
        seen.add(str(record.msg))
        return new

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("flipkd: warning: %(message)s (shown once)"))
    handler.setLevel(logging.WARNING)
    handler.addFilter(first_of_its_kind)
    return handler


@contextmanager
def steps_shown(name: str) -> Iterator[None]:
    """Print the steps that a logger reports as INFO to stderr if that is a terminal."""
    logger = logging.getLogger(name)
    if not sys.stderr.isatty():
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: record.levelno == logging.INFO)  # warnings have a handler of their own
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def note_blank_lines(table: str, lines: int) -> None:
    """Print the number of blank lines of a table, unless it is 0."""
    if lines:
        click.echo(f"flipkd: {table}: blank lines skipped: {lines:,}", err=True)


def print_json(content: object) -> None:
    """Print JSON on standard output; NaN and infinities, which JSON lacks, become null."""
    click.echo(json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(content: object) -> object:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def print_run(figures: Mapping[str, object], line: str, *, as_json: bool) -> None:
    """Print the figures of a run: as JSON on standard output, or as one line on stderr.

    Args:
        figures: by name; ``output`` names the file.
        line: the most important ones in words.
        as_json: print JSON.
    """
    if as_json:
        print_json(figures)
    else:
        out = "standard output" if figures["output"] == "-" else figures["output"]
        click.echo(f"flipkd: {out}: {line}", err=True)


class Stopwatch:
    """Time since the start, for rates."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def rate(self, rows: int) -> float:
        """Return the rows per second so far."""
        return rows / max(time.monotonic() - self._start, 1e-9)


@contextmanager
def row_progress(total_bytes: int | None) -> Iterator[Callable[[int, int], None]]:
    """Show progress on stderr if that is a terminal.

    Args:
        total_bytes: size of the input, for the share done and the time left; None if unknown.

    Yields:
        A function to call with the number of rows done since the last call, and the bytes read so far.
    """
    if not sys.stderr.isatty():
        yield lambda _rows, _position: None
        return
    from tqdm import tqdm

    known = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"
    watch = Stopwatch()
    done = 0
    with tqdm(total=total_bytes, bar_format=known if total_bytes else "{desc} [{elapsed}]", leave=True) as bar:

        def advance(rows: int, position: int) -> None:
            nonlocal done
            done += rows
            bar.set_description_str(f"{done:,} rows, {watch.rate(done):,.0f} rows/s", refresh=False)
            bar.update(position - bar.n)

        yield advance


@contextmanager
def step_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of work in steps on stderr if that is a terminal.

    Yields:
        A function to call with the step, the number of items done and that of all.
    """
    if not sys.stderr.isatty():
        yield lambda _step, _done, _total: None
        return
    from tqdm import tqdm

    bars: dict[str, tqdm[None]] = {}

    def show(step: str, done: int, total: int) -> None:
        if step not in bars:
            for bar in bars.values():
                bar.close()
            bars[step] = tqdm(total=total, desc=step, unit="", unit_scale=True, mininterval=0.5)
        bars[step].update(done - bars[step].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def resume_command() -> str:
    """Return the command line of this process with ``--resume``."""
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--resume", "--overwrite")]
    return shlex.join(["flipkd", *arguments, "--resume"])


def columns(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Return rows of cells in columns of equal width; unprintable characters are replaced."""
    clean = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in clean)
    return "\n".join(indent + line for line in lines)


def printable(text: str) -> str:
    """Return a line of text with its unprintable characters replaced."""
    # Control characters in a foreign file must not reach the terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
