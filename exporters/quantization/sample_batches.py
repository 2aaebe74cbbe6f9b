"""Sample batches for quantization: training texts without padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.training.tokens import tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    Batch = dict[str, NDArray[np.int64]]
    """``input_ids`` and ``attention_mask``, int64 (batch, seq)."""

_BATCH = 16


def sample_batches(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, count: int, max_length: int, seed: int
) -> list[Batch]:
    """Draw texts and batch those of equal length.

    Batches of one length contain no padding, whose activations would widen the quantization ranges.

    Args:
        tokenizer: the student's.
        texts: the train split's texts.
        count: largest number of texts.
        max_length: most tokens of a text.
        seed: seed of the draw.
    """
    chosen = np.random.default_rng(seed).permutation(len(texts))[:count]
    tokens = tokenize(tokenizer, [texts[i] for i in chosen], max_length)
    order = sorted(range(len(chosen)), key=lambda i: len(tokens.token_ids[i]))
    batches: list[Batch] = []
    row: list[int] = []
    for i in order:
        if row and (len(row) == _BATCH or len(tokens.token_ids[i]) != len(tokens.token_ids[row[0]])):
            batches.append({name: tensor.numpy() for name, tensor in tokens.batch(row).items()})
            row = []
        row.append(i)
    batches.append({name: tensor.numpy() for name, tensor in tokens.batch(row).items()})
    return batches
