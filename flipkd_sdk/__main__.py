"""Entry point of the ``flipkd`` command and of ``python -m flipkd_sdk``."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType


def run() -> NoReturn:
    """Import the command line, and run it."""
    # An interruption of the import would print a traceback. Nothing has been written yet, so the exit can be immediate.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    from flipkd_sdk.cli.main import run as run_command

    run_command()


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


if __name__ == "__main__":
    run()
