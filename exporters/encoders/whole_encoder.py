"""An encoder exported whole: any transformers encoder with its pooling and dense layers."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.training.models.teacher import pooled_states

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flipkd_sdk.training.models.teacher import TextEncoder


class WholeEncoder(nn.Module):
    """An encoder as a torch module that an export translates, beside `encoder_path.EncoderPath`.

    Args:
        encoder: model, pooling and dense layers.
    """

    token_maps = None

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.model: PreTrainedModel = encoder.model
        self.pooling = encoder.pooling
        self.dense = encoder.dense
        self._numbers_tokens = _numbers_tokens(encoder.model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map token ids and mask, int64 (batch, seq), to unit vectors, float32 (batch, d)."""
        # A RotaryEmbedding node needs the positions of every text, not one row for all.
        positions = {"position_ids": (attention_mask.cumsum(dim=1) - 1).clamp(min=0)} if self._numbers_tokens else {}
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, **positions).last_hidden_state
        pooled = pooled_states(hidden, attention_mask, self.pooling)
        return functional.normalize(self.dense(pooled.float()), dim=-1)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the unit vectors."""
        return self.forward(input_ids, attention_mask)


def _numbers_tokens(model: PreTrainedModel) -> bool:
    """Return whether a model has rotary embeddings and takes positions."""
    rotary = any("rotary" in type(module).__name__.lower() for module in model.modules())
    return rotary and "position_ids" in inspect.signature(model.forward).parameters


def longest_text(model: PreTrainedModel, limit: int) -> int:
    """Return the most tokens that a model has positions for, at most ``limit``.

    RoBERTa's families number positions from behind the padding token, so two of their rows have no token.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            limit = min(limit, module.num_embeddings - before)
    return limit


@torch.no_grad()
def attention_of(model: PreTrainedModel) -> str:
    """Return ``causal`` or ``bidirectional``: whether the first token's state depends on the last token.

    Raises:
        ModelSourceError: the model does not return the states of its tokens.
    """
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]])
    result = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    states = getattr(result, "last_hidden_state", None)
    if states is None:
        raise ModelSourceError(f"{type(model).__name__} returns no states of tokens, so it is not a text encoder")
    return "causal" if torch.equal(states[0, 0], states[1, 0]) else "bidirectional"
