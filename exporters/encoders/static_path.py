"""The encoder path of a static student: look up each token's vector, take the mean, normalize."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig

from flipkd_sdk.errors import VerificationError
from flipkd_sdk.training.models.readout import pool

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flipkd_sdk.training.head.files import TokenMaps
    from flipkd_sdk.training.models.static import StaticStudent


class _Table(nn.Embedding):
    """A table of token vectors, with the two attributes of a model that an export reads."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__(len(rows), rows.shape[1], _weight=rows)
        self.config = PreTrainedConfig(vocab_size=len(rows))  # type: ignore[call-arg]  # as of any model

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the table itself."""
        return self


class StaticPath(nn.Module):
    """A table of token vectors as a torch encoder.

    Args:
        rows: for each token its part of a text's vector, and after it the pair head's token vector, if there is a head,
            float32 (vocabulary, d + k).
        dimension: d.
    """

    def __init__(self, rows: Tensor, dimension: int) -> None:
        super().__init__()
        self.model = cast("PreTrainedModel", _Table(rows))
        self.dimension = dimension
        self.token_maps = None if rows.shape[1] == dimension else True

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map token ids and mask, int64 (batch, seq), to unit vectors, float32 (batch, d).

        With a pair head also return token vectors, float32 (batch, seq, k).
        """
        rows = self.model(input_ids)
        if self.token_maps is None:
            return _normalized(rows, attention_mask)
        return _normalized(rows[..., : self.dimension], attention_mask), rows[..., self.dimension :]

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the unit vectors alone."""
        return _normalized(self.model(input_ids)[..., : self.dimension], attention_mask)


def _normalized(rows: Tensor, attention_mask: Tensor) -> Tensor:
    return functional.normalize(pool(rows, attention_mask, "mean"), dim=-1)


@torch.no_grad()
def extract_table(student: StaticStudent, token_maps: TokenMaps | None = None) -> StaticPath:
    """Return the encoder path of a static student.

    Args:
        student: the trained student.
        token_maps: of its pair head, if it has one.

    Raises:
        VerificationError: a row is NaN or infinite.
    """
    rows = student.token_vectors(torch.arange(len(student.embedding)))
    if not bool(torch.isfinite(rows).all()):
        raise VerificationError("a token vector holds NaN or infinite values; the run cannot be exported")
    parts = [rows]
    if token_maps is not None:
        maps = (
            (token_maps.context_weight, token_maps.context_bias),
            (token_maps.lexical_weight, token_maps.lexical_bias),
        )
        for states, (weight, bias) in zip((rows, student.embedding), maps, strict=True):
            parts.append(functional.linear(states, torch.from_numpy(weight), torch.from_numpy(bias)))
    return StaticPath(torch.cat(parts, dim=1), rows.shape[1]).eval().requires_grad_(requires_grad=False)
