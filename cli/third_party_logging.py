"""Other libraries' chatter, kept from the user's terminal."""

from __future__ import annotations

import sys
import warnings


def quieten_transformers() -> None:
    """Silence what transformers says of the blocks that are left out, and of its own future.

    Its progress bars stay where they reach a terminal.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
