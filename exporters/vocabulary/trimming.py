"""Trimming of a student's vocabulary and embedding, and its measured effect.

The tokens of the train pairs and of the unlabelled texts are kept. The development texts are left out, because they
represent future texts: measured on texts that were kept, the effect would look too small.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from flipkd_sdk.artifact.manifest import TrimmedVocabulary
from flipkd_sdk.evaluation import metrics
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.exporters.vocabulary.pruning import token_count, trim, unchanged_share
from flipkd_sdk.pairs import read_texts
from flipkd_sdk.training.tokens import encode, tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.exporters.encoder_path import EncoderPath
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.run_directory import FinishedRun

logger = logging.getLogger("flipkd_sdk")

VOCABULARY_SIZE = 15_000
"""Default size of a trimmed vocabulary, in tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class TrimmedStudent:
    """Tokenizer and cosines of a student whose vocabulary was trimmed."""

    tokenizer: PreTrainedTokenizerBase
    cosines: NDArray[np.float32]
    """Cosines of the development pairs, shape (n,)."""
    report: TrimmedVocabulary


def trim_student(
    run: FinishedRun,
    tokenizer: PreTrainedTokenizerBase,
    path: EncoderPath,
    dev: Pairs,
    cosines: NDArray[np.float32],
    *,
    size: int,
) -> TrimmedStudent:
    """Remove tokens from a student's vocabulary, and their embedding rows from its encoder path.

    Args:
        run: finished run with the texts.
        tokenizer: the student's.
        path: the student's encoder path, whose embedding is replaced.
        dev: labelled pairs to measure the effect on.
        cosines: cosines of these pairs with the full vocabulary, shape (n,).
        size: number of tokens to fill up to with the most frequent ones of the base model.

    Raises:
        ConfigError: the tokenizer is of a kind that cannot be trimmed.
        InvalidPairsError: the file of unlabelled texts cannot be read any more.
        VerificationError: the encoding of a text changed although its tokens were kept.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    special = {
        role: str(token)
        for role in ("bos_token", "eos_token", "unk_token", "pad_token")
        if (token := getattr(tokenizer, role)) is not None
    }
    trimmed = trim(backend, domain_texts(run), required=special.values(), size=size)
    pad = special.pop("pad_token")
    smaller = PreTrainedTokenizerFast(tokenizer_object=trimmed.tokenizer, padding_side="right", **special)
    smaller.pad_token = pad
    base_tokens, width = keep_rows(path, trimmed.kept)
    moved = encoder_cosines(lambda texts: encode(tokenize(smaller, texts, path.options.max_length), path.encode), dev)
    report = TrimmedVocabulary(
        tokens=len(trimmed.kept),
        base_tokens=base_tokens,
        width=width,
        unchanged=unchanged_share(backend, trimmed.tokenizer, dev.texts),
        growth=token_count(trimmed.tokenizer, dev.texts) / max(1, token_count(backend, dev.texts)),
        **metrics.agreement(moved, cosines, dev.label),
    )
    return TrimmedStudent(smaller, moved, report)


def domain_texts(run: FinishedRun) -> Sequence[str]:
    """Return the train and unlabelled texts of a run, without the texts of the development and test pairs."""
    held_out = {text for name in ("dev", "test") if (pairs := run.split(name)) is not None for text in pairs.texts}
    train = run.split("train")
    texts = list(train.texts) if train is not None else []
    file = run.config.data.texts
    if file is not None and file.is_file():
        texts += read_texts(file, column=run.config.data.text_column)
    elif file is not None:
        logger.warning("%s: missing, the vocabulary is trimmed to the texts of the train pairs only", file)
    return [text for text in dict.fromkeys(texts) if text not in held_out]


def keep_rows(path: EncoderPath, kept: NDArray[np.int64]) -> tuple[int, int]:
    """Keep some rows of the token embedding, in a given order.

    Args:
        path: changed in place.
        kept: old row of each new row, shape (tokens,).

    Returns:
        The former number of rows, and their width.
    """
    embedding = cast("nn.Embedding", path.model.get_input_embeddings())
    rows = embedding.weight.detach()
    embedding.weight = nn.Parameter(rows[torch.from_numpy(kept)], requires_grad=False)
    embedding.num_embeddings = len(kept)
    # It only affects gradients, and could be out of range now.
    embedding.padding_idx = None
    path.model.config.vocab_size = len(kept)
    return rows.shape[0], rows.shape[1]
