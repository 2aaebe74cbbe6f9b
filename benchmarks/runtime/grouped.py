"""Program that groups a table by ``flipkd dedupe`` and prints the seconds of its steps and its peak of memory."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memory import PEAK, memory_mb

from flipkd_sdk.cli.linkage import encoding as linkage_encoding
from flipkd_sdk.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_marks: list[tuple[str, float]] = []


@contextmanager
def _timed() -> Iterator[Callable[[str, int, int], None]]:
    """Note when each step reports."""
    yield lambda step, _done, _total: _marks.append((step, time.perf_counter()))


def main() -> None:
    """Group the table."""
    matcher, table, out, *options = sys.argv[1:]
    linkage_encoding.step_progress = _timed
    start = time.perf_counter()
    cli.main(["dedupe", matcher, table, "--out", out, *options], standalone_mode=False)
    end = time.perf_counter()
    encoding = [at for step, at in _marks if step == "encoding"] or [start]
    seconds = {
        "total": end - start,
        "reading_and_encoding": encoding[-1] - start,
        "beyond_encoding": end - encoding[-1],
        # The first report comes when the engine has started and the first texts are encoded.
        "after_first_report": end - encoding[0],
    }
    print(json.dumps({**{f"{name}_seconds": value for name, value in seconds.items()}, "peak_mb": memory_mb(PEAK)}))


if __name__ == "__main__":
    main()
