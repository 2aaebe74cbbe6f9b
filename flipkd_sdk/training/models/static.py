"""The static student: an LLM read at depth 0, with a trained vector for each token and no block to run.

The vector of a text is z = normalize(Σ_t w_t · (A·e_t + δ_t)) over its tokens t. The LLM's token embedding e_t is
frozen, and A is the encoder as in a deeper student. The correction δ_t and the weight w_t belong to the tokens that the
training texts contain. Any other token has A·e_t alone, so training also moves the tokens that it has not seen.

At export each token's w_t · (A·e_t + δ_t) becomes one row of a table.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from flipkd_sdk.errors import ModelSourceError, TrainingError
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models.blocks import LLM, cut_blocks
from flipkd_sdk.training.models.pretrained import read_model, read_text_config
from flipkd_sdk.training.models.readout import pool
from flipkd_sdk.training.models.weights import read_weights, readable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from flipkd_sdk.training.config.schema import TrainConfig

logger = logging.getLogger("flipkd_sdk")

FILE = "static.safetensors"
_TOKENS = "tokens"
"""Name in the file of the ids of the trained tokens."""
_WITHOUT_EFFECT: dict[str, dict[str, object]] = {
    "student": {
        name: StudentConfig.model_fields[name].default for name in ("alpha", "attention", "gradient_checkpointing")
    },
    "alignment": {"loraplus_lr_ratio": 1.0},
    "labels": {"loraplus_lr_ratio": 1.0},
}
"""Options of adapters and blocks, by section, with the values that they are reset to."""


class StaticStudent(nn.Module):
    """The token embedding of an LLM, with its trained encoder.

    Args:
        embedding: of the LLM, float32 (vocabulary, hidden).
        options: with ``site_rank``, the length d of the text vectors.
    """

    def __init__(self, embedding: Tensor, options: StudentConfig) -> None:
        super().__init__()
        self.options = options
        self.embedding: Tensor
        self.row: Tensor
        self.register_buffer("embedding", embedding, persistent=False)
        self.register_buffer("row", torch.zeros(len(embedding), dtype=torch.int64), persistent=False)
        dimension = options.site_rank or options.rank
        self.encoder_weight = nn.Parameter(torch.empty(dimension, embedding.shape[1]))
        nn.init.kaiming_uniform_(self.encoder_weight, a=5**0.5)  # as peft starts A
        self.correction = nn.Parameter(torch.zeros(1, dimension))
        self.weight = nn.Parameter(torch.zeros(1))

    def open_rows(self, tokens: Sequence[int]) -> None:
        """Give each of these distinct tokens a correction and a weight of its own.

        Row 0 is that of all other tokens. Its correction stays zero.

        Raises:
            ModelSourceError: the embedding has no such token.
        """
        if (largest := max(tokens, default=0)) >= len(self.row):
            raise ModelSourceError(
                f"the tokenizer has token {largest} and the LLM's embedding has {len(self.row)} rows; the two are not "
                "of one model"
            )
        count, device = len(tokens) + 1, self.encoder_weight.device
        self.row.zero_()
        self.row[torch.tensor(tokens, dtype=torch.int64, device=device)] = torch.arange(1, count, device=device)
        self.correction = nn.Parameter(torch.zeros(count, len(self.encoder_weight), device=device))
        self.weight = nn.Parameter(torch.zeros(count, device=device))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit vectors, float32 (batch, d), of token ids and mask, int64 (batch, seq)."""
        weight = self._weights(input_ids, attention_mask)
        pooled = functional.embedding_bag(input_ids, self.embedding, mode="sum", per_sample_weights=weight)
        rows = self.row[input_ids]
        known = (rows > 0).to(weight.dtype)
        correction = functional.embedding_bag(rows, self.correction, mode="sum", per_sample_weights=weight * known)
        return functional.normalize(functional.linear(pooled, self.encoder_weight) + correction, dim=-1)

    def vectors(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the unit vectors of texts, (batch, d), of their token vectors."""
        return functional.normalize(pool(hidden, attention_mask, self.options.pooling), dim=-1)

    def merged(self) -> StaticStudent:
        """Return the student itself, in evaluation mode, because it has no adapters."""
        return self.eval()

    def embed(self, ids: Tensor) -> Tensor:
        """Return the LLM's token embeddings, (…, hidden)."""
        return self.embedding[ids]

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the token vectors, which are the states that a pair head reads, (batch, seq, d)."""
        return self.token_vectors(input_ids)

    def token_vectors(self, ids: Tensor) -> Tensor:
        """Return the vectors w · (A·e + δ) of tokens, whose sum is a text's vector, float32 (…, d)."""
        rows = self.row[ids]
        correction = self.correction[rows] * (rows > 0)[..., None]
        return self.weight[rows].exp()[..., None] * (self.embedding[ids] @ self.encoder_weight.T + correction)

    def save(self, directory: Path) -> None:
        """Write A, and the corrections, weights and ids of the trained tokens."""
        directory.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.named_parameters()}
        tokens = self.row.argsort(stable=True)[-(len(self.weight) - 1) :] if len(self.weight) > 1 else self.row[:0]
        save_file(weights | {_TOKENS: tokens.cpu()}, directory / FILE)

    def _weights(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the weight of each token in its text; 0 for padding and for what token dropout leaves out."""
        mask = attention_mask.to(self.weight.dtype)
        share = self.options.token_dropout
        if self.training and share:
            kept = mask * (torch.rand_like(mask) >= share)
            # A text keeps at least one token.
            mask = torch.where(kept.sum(dim=1, keepdim=True) > 0, kept, mask)
        return mask * self.weight[self.row[input_ids]].exp()


def without_adapters(config: TrainConfig) -> TrainConfig:
    """Return the options of a static student with those of adapters and blocks reset, which have no effect on it.

    One warning names those that were set.
    """
    if not config.student.is_static:
        return config
    unused: dict[str, object] = {}
    ignored: list[str] = []
    for section, neutral in _WITHOUT_EFFECT.items():
        own = getattr(config, section)
        ignored += [f"{section}.{name}" for name, value in neutral.items() if getattr(own, name) != value]
        unused[section] = own.model_copy(update=neutral)
    if ignored:
        verb = "has" if len(ignored) == 1 else "have"
        logger.warning("a static student runs no block, so %s %s no effect", ", ".join(ignored), verb)
    return config.model_copy(update=unused)


def create_static_student(location: str, config: StudentConfig) -> StaticStudent:
    """Load the LLM's token embedding with a new A.

    Raises:
        ModelSourceError: there is no such model, or it is not a decoder-only LLM.
    """
    cut = read_text_config(location, LLM)
    cut_blocks(cut, 1)
    model = read_model(AutoModelForCausalLM, location, LLM, config=cut, unused=("lm_head",))
    embedding = cast("nn.Embedding", model.get_input_embeddings())
    return StaticStudent(embedding.weight.detach().clone(), config)


def load_static_student(location: str, directory: Path, config: StudentConfig) -> StaticStudent:
    """Load the LLM's token embedding with what was trained, in evaluation mode.

    Raises:
        ModelSourceError: the base model is missing.
        TrainingError: the file is damaged or does not fit the model.
    """
    student, file = create_static_student(location, config), directory / FILE
    with readable(file), safe_open(file, framework="pt") as content:
        stored = content.get_tensor(_TOKENS)
    tokens = stored.flatten().tolist()
    if (
        stored.dim() != 1
        or len(set(tokens)) < len(tokens)
        or not all(isinstance(i, int) and 0 <= i < len(student.row) for i in tokens)
    ):
        raise TrainingError(f"{file}: its tokens are not distinct ids of {location}; restore the file or train again")
    student.open_rows(tokens)
    student.load_state_dict(read_weights(file, dict(student.named_parameters()), more=True), strict=False)
    return student.requires_grad_(requires_grad=False).eval()
