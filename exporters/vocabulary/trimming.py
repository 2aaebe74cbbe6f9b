"""Trimming a student's vocabulary: which texts decide, the rows of its embedding, and what it does to other texts.

The texts that tokens are kept for are the train pairs' and the unlabelled ones. The development texts are not among
them: they stand for texts that come later, and everything measured on them would flatter.
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
from flipkd_sdk.exporters.vocabulary.pruning import token_count, trim, unchanged_share
from flipkd_sdk.pairs import read_texts
from flipkd_sdk.training.data.tokens import encode, tokenize
from flipkd_sdk.training.evaluation import pair_cosines

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
"""Tokens that a trimmed vocabulary is filled up to, unless another number is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class TrimmedStudent:
    """What takes the place of the student's tokenizer and of its cosines once its encoder path is trimmed."""

    tokenizer: PreTrainedTokenizerBase
    cosines: NDArray[np.float32]
    """Of the development pairs, shape (n,)."""
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
    """Leave tokens out of a student's vocabulary, and their rows out of its encoder path.

    Args:
        run: the finished run, for its texts.
        tokenizer: the student's.
        path: the student's encoder path, whose embedding is replaced.
        dev: labelled pairs to measure on.
        cosines: of these pairs, as the student has them with its whole vocabulary, shape (n,).
        size: how many tokens to fill up to with the most frequent ones of the base model.

    Raises:
        ConfigError: the tokenizer is not of a kind that can be trimmed.
        InvalidPairsError: the file of unlabelled texts is no longer one.
        VerificationError: a text is not encoded as before with its tokens kept.
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
    moved = pair_cosines(lambda texts: encode(tokenize(smaller, texts, path.options.max_length), path), dev)
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
    """The run's train and unlabelled texts, without those of the development and the test pairs."""
    held_out = {text for name in ("dev", "test") if (pairs := run.split(name)) is not None for text in pairs.texts}
    train = run.split("train")
    texts = list(train.texts) if train is not None else []
    file = run.config.data.texts
    if file is not None and file.is_file():
        texts += read_texts(file, column=run.config.data.text_column)
    elif file is not None:
        logger.warning("%s: missing, so the vocabulary is trimmed to the texts of the train pairs alone", file)
    return [text for text in dict.fromkeys(texts) if text not in held_out]


def keep_rows(path: EncoderPath, kept: NDArray[np.int64]) -> tuple[int, int]:
    """Leave only some rows of the token embedding, in a given order.

    Args:
        path: changed in place.
        kept: the old row of each new one, shape (tokens,).

    Returns:
        How many rows there were, and how many numbers are in one.
    """
    embedding = cast("nn.Embedding", path.model.get_input_embeddings())
    rows = embedding.weight.detach()
    embedding.weight = nn.Parameter(rows[torch.from_numpy(kept)], requires_grad=False)
    embedding.num_embeddings = len(kept)
    embedding.padding_idx = None  # it guides gradients alone, and could be out of range now
    path.model.config.vocab_size = len(kept)
    return rows.shape[0], rows.shape[1]
