"""Texts as token ids, and encoding them in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from flipkd_sdk.training.out_of_memory import explain_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedTexts:
    """Token ids of texts, truncated at a maximum length."""

    token_ids: list[list[int]]
    pad_token_id: int
    truncated: int
    """Number of texts that were longer than the limit."""

    def batch(self, rows: Sequence[int], *, left: bool = False) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask``, int64 (batch, seq), padded on the right or on the left."""
        texts = [self.token_ids[i] for i in rows]
        width = max(len(ids) for ids in texts)
        input_ids = torch.full((len(texts), width), self.pad_token_id, dtype=torch.int64)
        attention_mask = torch.zeros((len(texts), width), dtype=torch.int64)
        for i, ids in enumerate(texts):
            filled = slice(width - len(ids), width) if left else slice(len(ids))
            input_ids[i, filled] = torch.tensor(ids)
            attention_mask[i, filled] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}


def empty_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that replaces a text without tokens: BOS, else EOS, else padding."""
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if isinstance(token_id, int):
            return token_id
    return 0


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> TokenizedTexts:
    """Tokenize texts; one without tokens becomes the single token of `empty_token_id`, as in the exported matcher."""
    if not texts:
        return TokenizedTexts([], int(tokenizer.pad_token_id), 0)
    full = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    cut = tokenizer(list(texts), add_special_tokens=True, truncation=True, max_length=max_length)["input_ids"]
    truncated = sum(len(long) > len(short) for long, short in zip(full, cut, strict=True))
    empty = [empty_token_id(tokenizer)]
    return TokenizedTexts([ids or empty for ids in cut], int(tokenizer.pad_token_id), truncated)


@torch.inference_mode()
def encode(
    texts: TokenizedTexts,
    forward: Callable[[Tensor, Tensor], Tensor],
    *,
    batch_size: int = 64,
    progress: str | None = None,
    device: torch.device | str = "cpu",
    left: bool = False,
) -> NDArray[np.float32]:
    """Encode texts in batches of similar length.

    Args:
        texts: n tokenized texts.
        forward: maps ``input_ids`` and ``attention_mask`` to vectors (batch, d).
        batch_size: texts a batch.
        progress: label of the progress bar; None shows no bar.
        device: device of the model.
        left: pad on the left.

    Returns:
        float32, shape (n, d), in the order of the texts.

    Raises:
        TrainingError: memory ran out; the message names the option to change.
    """
    order = np.argsort([len(ids) for ids in texts.token_ids], kind="stable")
    parts = []
    starts = range(0, len(order), batch_size)
    for start in tqdm(starts, desc=progress, unit="batch", disable=None if progress else True, leave=False):
        batch = texts.batch(order[start : start + batch_size].tolist(), left=left)
        longest = batch["input_ids"].shape[1]
        with explain_out_of_memory(f"encoding texts of up to {longest} tokens", "lower the model's max_length"):
            vectors = forward(batch["input_ids"].to(device), batch["attention_mask"].to(device))
            parts.append(vectors.float().cpu().numpy())
    by_length = np.concatenate(parts)
    in_order = np.empty_like(by_length)
    in_order[order] = by_length
    return in_order
