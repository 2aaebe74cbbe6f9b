"""Entry point of the ``flipkd`` command and of ``python -m flipkd_sdk``."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType


def run() -> NoReturn:
    """Import the command line, and run it."""
    # An interruption of the import would print a traceback; nothing has been written that an exit could leave behind.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)
    from flipkd_sdk.cli.main import run as run_command

    run_command()


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


if __name__ == "__main__":
    run()
