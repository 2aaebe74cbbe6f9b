"""The teacher: a small encoder, used as it is or fine-tuned on the train pairs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.manifest import sha256_of
from flipkd_sdk.training.batches import Corpus, PairDataset, encode, tokenize
from flipkd_sdk.training.config import StageConfig
from flipkd_sdk.training.losses import cosent
from flipkd_sdk.training.readout import pool
from flipkd_sdk.training.sources import loading
from flipkd_sdk.training.trainer import Stage, train_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config import TeacherConfig
    from flipkd_sdk.training.sources import ResolvedModel


_POOLING_FILE = "1_Pooling/config.json"
"""Where sentence-transformers keeps the pooling of a model."""


class TextEncoder(nn.Module):
    """A transformers encoder with pooling on top.

    Args:
        model: the encoder.
        pooling: ``mean`` over the tokens, or ``cls`` for the first one's vector.
    """

    def __init__(self, model: PreTrainedModel, pooling: str) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, int64 (batch, seq) → unit vectors, float32 (batch, d)."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = hidden[:, 0] if self.pooling == "cls" else pool(hidden, attention_mask, "mean")
        return functional.normalize(pooled.float(), dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """An encoder of texts that the student learns from."""

    encoder: TextEncoder
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    revision: str
    """SHA-256 of the weights."""

    def encode(self, texts: Sequence[str], *, progress: str | None = None) -> NDArray[np.float32]:
        """Unit vectors of n texts, float32 (n, d)."""
        tokens = tokenize(self.tokenizer, texts, self.max_length)
        device = self.encoder.model.device
        return encode(tokens, self.encoder.eval(), batch_size=128, progress=progress, device=device)


def load_teacher(source: ResolvedModel, max_length: int) -> Teacher:
    """Load a transformers encoder; the pooling of a sentence-transformers directory is honoured, else it is the mean.

    Raises:
        ModelSourceError: there is no such encoder, or it has no tokenizer.
    """
    location = source.location
    with loading(location, "an encoder"):
        model = AutoModel.from_pretrained(location, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(location)
    if tokenizer.pad_token_id is None:
        raise ModelSourceError(f"{location}: its tokenizer has no padding token, so it is not an encoder's")
    # Some encoders have position embeddings that no token gets; their tokenizers know the limit.
    limit = min(getattr(model.config, "max_position_embeddings", max_length), tokenizer.model_max_length)
    encoder = TextEncoder(model, _pooling(Path(location)))
    return Teacher(encoder, tokenizer, min(max_length, limit), source.reference.revision)


def fine_tune(
    teacher: Teacher,
    train: Pairs,
    config: TeacherConfig,
    *,
    development: Callable[[], float],
    run_directory: Path,
    seed: int,
) -> Teacher:
    """Fine-tune the teacher on labelled pairs with the CoSENT loss and save it under ``teacher/``.

    Args:
        teacher: the teacher; its weights change.
        train: the train pairs.
        config: epochs, learning rate, batch size.
        development: average precision of this teacher on the development pairs; the best epoch is kept.
        run_directory: where the fine-tuned teacher and the records go.
        seed: seed of the order.
    """

    def objective(vectors: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first, second = vectors.chunk(2)
        return {"cosent": cosent((first * second).sum(dim=1), batch["label"])}

    texts = train.texts
    nothing_above = torch.empty(len(texts), 0)
    tokens = tokenize(teacher.tokenizer, texts, teacher.max_length)
    corpus = Corpus({text: i for i, text in enumerate(texts)}, tokens, nothing_above, nothing_above)
    stage = StageConfig(epochs=config.epochs, batch_size=config.batch_size, learning_rate=config.learning_rate)
    dataset = PairDataset(corpus, train, np.ones(len(train), dtype=bool))
    train_stage(Stage("teacher", teacher.encoder, dataset, objective, stage, development, run_directory, seed))
    directory = run_directory / "teacher"
    teacher.encoder.model.save_pretrained(directory)
    teacher.tokenizer.save_pretrained(directory)
    pooling = teacher.encoder.pooling
    options = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
    (directory / _POOLING_FILE).parent.mkdir()
    (directory / _POOLING_FILE).write_text(json.dumps(options), encoding="utf-8")
    revision = sha256_of(directory / "model.safetensors")
    return Teacher(teacher.encoder, teacher.tokenizer, teacher.max_length, revision)


def alignment_targets(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """The teacher's vectors in the student's dimension, so that each text has a place to go.

    With equal dimensions they are taken as they are. In fewer dimensions the targets are the projection on the leading
    right singular vectors, whose inner products are the best approximation of the teacher's (Eckart & Young, 1936); in
    more, the rest is zero.

    Args:
        vectors: the teacher's unit vectors, float32 (n, d).
        dimension: r.

    Returns:
        Unit vectors, float32 (n, r).
    """
    width = vectors.shape[1]
    if dimension >= width:
        return np.pad(vectors, ((0, 0), (0, dimension - width)))
    _, basis = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    projected = vectors @ basis[:, ::-1][:, :dimension].astype(np.float32)
    return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)  # type: ignore[no-any-return]


def _pooling(directory: Path) -> str:
    file = directory / _POOLING_FILE
    if not file.is_file():
        return "mean"
    options = json.loads(file.read_text(encoding="utf-8"))
    if options.get("pooling_mode_cls_token"):
        return "cls"
    if options.get("pooling_mode_mean_tokens", True):
        return "mean"
    raise ModelSourceError(f"{file}: only mean and cls pooling are supported")
