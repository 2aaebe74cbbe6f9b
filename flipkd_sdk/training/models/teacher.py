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
from flipkd_sdk.training.models.pretrained import loading, read_config, read_model, read_tokenizer
from flipkd_sdk.training.models.readout import pool
from flipkd_sdk.training.models.sentence_modules import (
    SentenceModules,
    dense_directories,
    read_modules,
    write_modules,
)
from flipkd_sdk.training.models.sources import revision_of
from flipkd_sdk.training.tokens import encode, tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flipkd_sdk.artifact.manifest import ModelReference
    from flipkd_sdk.training.models.sources import ResolvedModel
    from flipkd_sdk.training.tokens import TokenizedTexts


class TextEncoder(nn.Module):
    """A transformers encoder with a pooling, and often dense layers, on top.

    Args:
        model: the encoder.
        modules: pooling and dense layers.
    """

    def __init__(self, model: PreTrainedModel, modules: SentenceModules) -> None:
        super().__init__()
        self.model = model
        self.pooling = modules.pooling
        self.dense = modules.dense

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit vectors, float32 (batch, d), of token ids and mask, int64 (batch, seq)."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = pooled_states(hidden, attention_mask, self.pooling)
        return functional.normalize(self.dense(pooled.float()), dim=-1)


def pooled_states(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """Return one vector per text of (batch, seq, hidden): ``cls``, the first state, or as `readout.pool` does."""
    return hidden[:, 0] if pooling == "cls" else pool(hidden, attention_mask, pooling)


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """An encoder of texts that the student learns from."""

    encoder: TextEncoder
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    reference: ModelReference
    """Source, licence, and the SHA-256 of the weights as the revision."""
    prompt: str = ""
    """Text before every text that it reads."""

    @property
    def revision(self) -> str:
        """The SHA-256 of the weights."""
        return self.reference.revision

    @property
    def identity(self) -> str:
        """Everything that a text's vector depends on: weights, pooling, length limit, tokenizer and prompt."""
        tokenizer = getattr(self.tokenizer, "backend_tokenizer", None)
        content = tokenizer.to_str() if tokenizer is not None else repr(self.tokenizer)
        digest = hashlib.sha256(content.encode()).hexdigest()
        parts = [self.revision, self.encoder.pooling, str(self.max_length), digest]
        # Nothing is added for a teacher without them, so that vectors cached by earlier releases are found.
        parts += [repr(self.encoder.dense)] if len(self.encoder.dense) else []
        return " ".join([*parts, repr(self.prompt)] if self.prompt else parts)

    @property
    def dimension(self) -> int:
        """The length of its vectors."""
        return int(self.encode([""]).shape[1])

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Return the texts, each after the prompt, as token ids."""
        return tokenize(self.tokenizer, [self.prompt + text for text in texts], self.max_length)

    def encode(self, texts: Sequence[str], *, progress: str | None = None) -> NDArray[np.float32]:
        """Return unit vectors of n texts, float32 (n, d)."""
        device = self.encoder.model.device
        return encode(self.tokenize(texts), self.encoder.eval(), batch_size=128, progress=progress, device=device)


def load_teacher(
    source: ResolvedModel, max_length: int, *, from_scratch: bool = False, prompt: str | None = None
) -> Teacher:
    """Load a transformers encoder, with the pooling, dense layers and prompt of a sentence-transformers directory.

    Args:
        source: the encoder's directory.
        max_length: largest number of tokens of a text, prompt included; the encoder's own limit comes first.
        from_scratch: take its architecture alone, with random weights.
        prompt: text before every text; the directory's default prompt if None.

    Raises:
        ModelSourceError: there is no such encoder, it has no tokenizer, or it needs something that is not supported.
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
    modules = read_modules(directory, with_dense=not from_scratch)
    reference = source.reference
    if len(modules.dense):
        reference = replace(reference, revision=_revision_with_dense(directory))
    prompt = modules.prompt if prompt is None else prompt
    return Teacher(TextEncoder(model, modules), tokenizer, min(max_length, limit), reference, prompt)


def save_teacher(teacher: Teacher, directory: Path) -> str:
    """Write the teacher as a sentence-transformers directory and return its revision."""
    encoder = teacher.encoder
    encoder.model.save_pretrained(directory)
    teacher.tokenizer.save_pretrained(directory)
    modules = SentenceModules(encoder.pooling, encoder.dense, teacher.prompt)
    write_modules(directory, encoder.model.config.get_text_config().hidden_size, modules)
    return _revision_with_dense(directory)


def _revision_with_dense(directory: Path) -> str:
    dense = [sha256_of(weights) for place in dense_directories(directory) for weights in sorted(place.glob("*model.*"))]
    own = revision_of(directory)
    return hashlib.sha256(" ".join([own, *dense]).encode()).hexdigest() if dense else own
