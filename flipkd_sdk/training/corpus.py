"""The corpus of a run: all its texts, tokenized for the student, and what the teacher says of each."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from flipkd_sdk.training import distributed
from flipkd_sdk.training.data.datasets import Corpus
from flipkd_sdk.training.data.tokens import tokenize
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.models.sources import default_cache_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.training.data.tokens import TokenizedTexts
    from flipkd_sdk.training.models.student import Student
    from flipkd_sdk.training.models.teacher import Teacher

logger = logging.getLogger("flipkd_sdk")


def build_corpus(
    texts: Sequence[str],
    teacher: Teacher | None,
    student: Student,
    tokenizer: PreTrainedTokenizerBase,
    *,
    copies: Sequence[str] = (),
) -> Corpus:
    """Tokenize the texts and their altered copies for the student and show each to the teacher once."""
    tokens = tokenize(tokenizer, texts, student.options.max_length)
    _warn_of_cut(tokens, "student", student.options.max_length)
    of_copies = tokenize(tokenizer, copies, student.options.max_length).token_ids
    tokens = replace(tokens, token_ids=tokens.token_ids + of_copies)
    position = {text: i for i, text in enumerate(texts)}
    if teacher is None:
        return Corpus(position, tokens, None, None)

    _warn_of_cut(teacher.tokenize(texts), "teacher", teacher.max_length)

    def shown() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        vectors = cached_vectors(teacher, [*texts, *copies], vector_cache())
        return vectors, alignment_targets(vectors, student.encoder_weight.shape[0])

    vectors, targets = map(torch.from_numpy, distributed.from_main(shown))
    return Corpus(position, tokens, vectors, targets)


def alignment_targets(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Return the teacher's vectors in the student's dimension, the targets of the alignment.

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


def _warn_of_cut(tokens: TokenizedTexts, model: str, limit: int) -> None:
    if tokens.truncated:
        message = "%d of %d texts are longer than %s.max_length = %d tokens"
        logger.warning(message, tokens.truncated, len(tokens.token_ids), model, limit)


def vector_cache() -> Path:
    """Where the teachers' vectors are kept between runs."""
    return default_cache_dir() / "teacher_vectors"
