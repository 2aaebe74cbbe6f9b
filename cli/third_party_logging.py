"""Control of other libraries' messages."""

from __future__ import annotations

import sys
import warnings


def quieten_transformers() -> None:
    """Silence what transformers logs about unused weights and future changes; a terminal keeps its progress bars."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
