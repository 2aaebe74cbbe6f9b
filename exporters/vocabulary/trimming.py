"""Trimming of an encoder's vocabulary and embedding, and its measured effect.

The tokens of the train pairs and of the unlabelled texts are kept. The development texts are left out, because they
represent future texts: measured on texts that were kept, the effect would look too small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from flipkd_sdk.artifact.manifest import TrimmedVocabulary
from flipkd_sdk.evaluation import metrics
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.exporters.vocabulary.pruning import token_count, trim, unchanged_share
from flipkd_sdk.training.tokens import encode, tokenize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.exporters.encoders.encoder_path import EncoderPath
    from flipkd_sdk.exporters.encoders.sources import ExportSource
    from flipkd_sdk.exporters.encoders.static_path import StaticPath
    from flipkd_sdk.exporters.encoders.whole_encoder import WholeEncoder

VOCABULARY_SIZE = 15_000
"""Default size of a trimmed vocabulary, in tokens."""
STATIC_VOCABULARY_SIZE = 13_000
"""Default size of a static student's vocabulary, whose rows are nearly all of its matcher."""


@dataclass(frozen=True, slots=True, eq=False)
class TrimmedEncoder:
    """Tokenizer and cosines of an encoder whose vocabulary was trimmed."""

    tokenizer: PreTrainedTokenizerBase
    cosines: NDArray[np.float32]
    """Cosines of the development pairs, shape (n,)."""
    report: TrimmedVocabulary


def trim_vocabulary(source: ExportSource, *, size: int) -> TrimmedEncoder:
    """Remove tokens from an encoder's vocabulary, and their rows from its embedding, which is replaced.

    Args:
        source: the encoder, its texts and its development pairs, on which the effect is measured.
        size: number of tokens to fill up to with the most frequent ones of the base model.

    Raises:
        ConfigError: the tokenizer is of a kind that cannot be trimmed.
        InvalidPairsError: the file of unlabelled texts cannot be read any more.
        VerificationError: the encoding of a text changed although its tokens were kept.
    """
    tokenizer, path, dev = source.tokenizer, source.path, source.splits["dev"]
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    special = {
        role: str(token)
        for role in ("bos_token", "eos_token", "unk_token", "pad_token")
        if (token := getattr(tokenizer, role)) is not None
    }
    trimmed = trim(backend, source.domain_texts(), required=special.values(), size=size)
    pad = special.pop("pad_token")
    smaller = PreTrainedTokenizerFast(tokenizer_object=trimmed.tokenizer, padding_side="right", **special)
    smaller.pad_token = pad
    base_tokens, width = keep_rows(path, trimmed.kept)
    moved = encoder_cosines(lambda texts: encode(tokenize(smaller, texts, source.max_length), path.encode), dev)
    report = TrimmedVocabulary(
        tokens=len(trimmed.kept),
        base_tokens=base_tokens,
        width=width,
        unchanged=unchanged_share(backend, trimmed.tokenizer, dev.texts),
        growth=token_count(trimmed.tokenizer, dev.texts) / max(1, token_count(backend, dev.texts)),
        **metrics.agreement(moved, source.cosines, dev.label),
    )
    return TrimmedEncoder(smaller, moved, report)


def keep_rows(path: EncoderPath | StaticPath | WholeEncoder, kept: NDArray[np.int64]) -> tuple[int, int]:
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
