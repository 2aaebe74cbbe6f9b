"""The teacher: a small encoder of texts, loaded from and saved as a sentence-transformers directory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel

from flipkd_sdk.artifact.manifest import sha256_of
from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.training.data.tokens import encode, tokenize
from flipkd_sdk.training.models.pretrained import loading, read_config, read_model, read_tokenizer
from flipkd_sdk.training.models.readout import pool
from flipkd_sdk.training.models.sentence_modules import dense_directories, read_dense, read_pooling, write_modules
from flipkd_sdk.training.models.sources import revision_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flipkd_sdk.artifact.manifest import ModelReference
    from flipkd_sdk.training.models.sources import ResolvedModel


class TextEncoder(nn.Module):
    """A transformers encoder with pooling, and maybe dense layers, on top.

    Args:
        model: the encoder.
        pooling: ``mean`` over the tokens, or ``cls`` for the first one's vector.
        dense: what a sentence-transformers directory applies to the pooled vector.
    """

    def __init__(self, model: PreTrainedModel, pooling: str, dense: nn.Sequential | None = None) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        self.dense = dense or nn.Sequential()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, int64 (batch, seq) → unit vectors, float32 (batch, d)."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = hidden[:, 0] if self.pooling == "cls" else pool(hidden, attention_mask, "mean")
        return functional.normalize(self.dense(pooled.float()), dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """An encoder of texts that the student learns from."""

    encoder: TextEncoder
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    reference: ModelReference
    """Its revision is the SHA-256 of the weights."""

    @property
    def revision(self) -> str:
        """SHA-256 of the weights."""
        return self.reference.revision

    @property
    def identity(self) -> str:
        """All that a text's vector depends on: weights, pooling, limit and tokenizer."""
        tokenizer = getattr(self.tokenizer, "backend_tokenizer", None)
        said = tokenizer.to_str() if tokenizer is not None else repr(self.tokenizer)
        words = hashlib.sha256(said.encode()).hexdigest()
        return f"{self.revision} {self.encoder.pooling} {self.max_length} {words}"

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        return int(self.encode([""]).shape[1])

    def encode(self, texts: Sequence[str], *, progress: str | None = None) -> NDArray[np.float32]:
        """Unit vectors of n texts, float32 (n, d)."""
        tokens = tokenize(self.tokenizer, texts, self.max_length)
        device = self.encoder.model.device
        return encode(tokens, self.encoder.eval(), batch_size=128, progress=progress, device=device)


def load_teacher(source: ResolvedModel, max_length: int, *, from_scratch: bool = False) -> Teacher:
    """Load a transformers encoder.

    Pooling and dense layers of a sentence-transformers directory are honoured; else it is the mean of the states.

    Args:
        source: where it is.
        max_length: most tokens of a text that it is to read; the encoder's own limit comes first.
        from_scratch: take its architecture alone, with random weights.

    Raises:
        ModelSourceError: there is no such encoder, or it has no tokenizer.
    """
    location = source.location
    what = "an encoder"
    if from_scratch:
        settings = read_config(location, what)
        with loading(location, what):
            model = AutoModel.from_config(settings, dtype=torch.float32, trust_remote_code=False)
    else:
        model = read_model(AutoModel, location, what, unused=("pooler",))
    tokenizer = read_tokenizer(location, what)
    if tokenizer.pad_token_id is None:
        raise ModelSourceError(f"{location}: its tokenizer has no padding token, so it is not an encoder's")
    # Some encoders have position embeddings that no token gets; their tokenizers know the limit.
    limit = min(getattr(model.config, "max_position_embeddings", max_length), tokenizer.model_max_length)
    directory = Path(location)
    dense = nn.Sequential() if from_scratch else read_dense(directory)
    encoder = TextEncoder(model, read_pooling(directory), dense)
    reference = source.reference
    if len(dense):
        reference = replace(reference, revision=_revision_with_dense(directory))
    return Teacher(encoder, tokenizer, min(max_length, limit), reference)


def save_teacher(teacher: Teacher, directory: Path) -> str:
    """Write the teacher as a sentence-transformers directory and return its revision."""
    encoder = teacher.encoder
    encoder.model.save_pretrained(directory)
    teacher.tokenizer.save_pretrained(directory)
    write_modules(directory, encoder.pooling, encoder.model.config.hidden_size, encoder.dense)
    return _revision_with_dense(directory)


def _revision_with_dense(directory: Path) -> str:
    dense = [sha256_of(weights) for place in dense_directories(directory) for weights in sorted(place.glob("*model.*"))]
    own = revision_of(directory)
    return hashlib.sha256(" ".join([own, *dense]).encode()).hexdigest() if dense else own
