"""Control of other libraries' messages."""

from __future__ import annotations

import functools
import sys
import warnings


def quieten_transformers() -> None:
    """Silence what transformers prints about weights, shards and future changes.

    At a terminal the bars of downloads and of the conversion of GGUF files stay, because both can take minutes.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from tqdm import tqdm
    from transformers import modeling_gguf_pytorch_utils as gguf
    from transformers.utils import logging

    downloads = sys.stderr.isatty() and not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()
    # tqdm takes None as: only at a terminal.
    vars(gguf)["tqdm"] = functools.partial(tqdm, disable=None)
    warnings.simplefilter("ignore", FutureWarning)
