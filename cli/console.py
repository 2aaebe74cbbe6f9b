"""What a person at a terminal sees: progress, and figures set in columns."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def warnings_once() -> logging.Handler:
    """A handler that prints each kind of warning to stderr once, so that a long table does not repeat it per chunk."""
    seen: set[str] = set()

    def first_of_its_kind(record: logging.LogRecord) -> bool:
        new = str(record.msg) not in seen
        seen.add(str(record.msg))
        return new

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("flipkd: warning: %(message)s (said once)"))
    handler.setLevel(logging.WARNING)
    handler.addFilter(first_of_its_kind)
    return handler


@contextmanager
def steps_shown(name: str) -> Iterator[None]:
    """Print what a part of the package says of its steps (what it logs as INFO) on stderr where that is a terminal."""
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


@contextmanager
def row_progress(total_bytes: int | None) -> Iterator[Callable[[int, int], None]]:
    """Show progress on stderr where it is a terminal, and nothing where it is not.

    Args:
        total_bytes: size of the input, of which the share and the time left are told; None if unknown.

    Yields:
        A function to call with the number of rows done since the last call, and the bytes read so far.
    """
    if not sys.stderr.isatty():
        yield lambda _rows, _position: None
        return
    from tqdm import tqdm

    known = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"
    start = time.monotonic()
    done = 0
    with tqdm(total=total_bytes, bar_format=known if total_bytes else "{desc} [{elapsed}]", leave=True) as bar:

        def advance(rows: int, position: int) -> None:
            nonlocal done
            done += rows
            rate = done / max(time.monotonic() - start, 1e-9)
            bar.set_description_str(f"{done:,} rows, {rate:,.0f} rows/s", refresh=False)
            bar.update(position - bar.n)

        yield advance


def columns(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Set rows of cells in columns of equal width; what cannot be printed is replaced."""
    clean = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in clean)
    return "\n".join(indent + line for line in lines)


def _printable(text: str) -> str:
    # A foreign file must not be able to steer the terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
