from __future__ import annotations

import io
import logging
import sys

import pytest

from flipkd_sdk.cli.console import columns, row_progress, steps_shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("total", "shown"), [(1000, "100%|"), (None, "12,345 rows, ")])
def test_a_terminal_shows_rows_and_rate(monkeypatch: pytest.MonkeyPatch, total: int | None, shown: str) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with row_progress(total) as advance:
        advance(12_000, 400)
        advance(345, 1000)
    seen = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert shown in seen
    assert "12,345 rows, " in seen and " rows/s" in seen


def test_no_progress_is_written_to_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with row_progress(10) as advance:
        advance(5, 10)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize(("stream", "seen"), [(Terminal(), "smoothing 3\n"), (io.StringIO(), "")])
def test_logged_steps_are_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, seen: str
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    logger = logging.getLogger("flipkd_sdk.exporters")
    before = (logger.level, list(logger.handlers))
    with steps_shown("flipkd_sdk.exporters"):
        logger.info("smoothing %d", 3)
        logging.getLogger("flipkd_sdk").info("nor what another part is at")
        logger.debug("not this")
        logger.warning("not that, which has a handler of its own")
    logger.info("nor what comes later")
    assert stream.getvalue() == seen
    assert (logger.level, logger.handlers) == before


def test_columns_are_aligned_and_printable() -> None:
    assert columns([("a", "1"), ("long", "\x1b[2J")], indent="  ") == "  a     1\n  long  \ufffd[2J"
