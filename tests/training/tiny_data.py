"""A tiny corpus, and an encoder that counts letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from tiny_models import pretrained_tokenizer

from flipkd_sdk.training.data.corpus import Corpus
from flipkd_sdk.training.tokens import tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flipkd_sdk.pairs import Pairs


def corpus_of(pairs: Pairs) -> Corpus:
    texts = pairs.texts
    rng = np.random.default_rng(0)
    teacher, target = (
        torch.from_numpy(rng.standard_normal((len(texts), width)).astype(np.float32)) for width in (4, 3)
    )
    tokens = tokenize(pretrained_tokenizer(), texts, 32)
    return Corpus({text: i for i, text in enumerate(texts)}, tokens, teacher, target)


def encode(texts: Sequence[str]) -> np.ndarray:
    """Letter counts as unit vectors."""
    counts = np.array([[text.count(letter) for letter in "aeiounrst"] for text in texts], dtype=np.float32) + 0.1
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)
