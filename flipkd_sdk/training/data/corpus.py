"""The corpus of a run: its texts, tokenized for the student, with the teacher's vectors."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from flipkd_sdk.evaluation.cosines import pair_cosines
from flipkd_sdk.training import distributed
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.models.committee import Committee
from flipkd_sdk.training.tokens import tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.models.student import AnyStudent
    from flipkd_sdk.training.models.teacher import Teacher
    from flipkd_sdk.training.tokens import TokenizedTexts

logger = logging.getLogger("flipkd_sdk")


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """All texts of a run; after them the altered copies that only the alignment stage uses.

    Each text is tokenized and encoded by the teacher once; datasets and batches refer to it by its index.
    """

    index: dict[str, int]
    """Index of each text; copies are not in it."""
    tokens: TokenizedTexts
    teacher: Tensor | None
    """The teacher's unit vectors, float32 (n, d); None for a teacher that scores pairs, or without a teacher."""
    target: Tensor | None
    """The same in the student's r dimensions, float32 (n, r)."""

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return tokens, the teacher's vectors and targets if there are any, and the rows themselves as ``text``.

        With several processes each gets the tokens of its `distributed.local_rows` alone.
        """
        index = torch.tensor(rows, dtype=torch.int64)
        batch = {**self.tokens.batch(distributed.local_rows(rows)), "text": index}
        if self.teacher is not None:
            batch["teacher"] = self.teacher[index]
        if self.target is not None:
            batch["target"] = self.target[index]
        return batch

    def teacher_scores(self, pairs: Pairs) -> NDArray[np.float32] | None:
        """Return the teacher's cosine or score of each pair, float32 (n,); None without a teacher."""
        if self.teacher is None:
            return pairs.teacher_score
        a, b = (np.array([self.index[text] for text in side], np.int64) for side in (pairs.a, pairs.b))
        return pair_cosines(self.teacher.numpy(), a, b)


def build_corpus(
    texts: Sequence[str],
    teacher: Teacher | Committee | None,
    student: AnyStudent,
    tokenizer: PreTrainedTokenizerBase,
    *,
    copies: Sequence[str] = (),
) -> Corpus:
    """Tokenize the texts and their altered copies for the student, and encode them with the teacher.

    Of a committee, a text of the train pairs gets the vector of the member that has not seen it.
    """
    tokens = tokenize(tokenizer, texts, student.options.max_length)
    _warn_of_truncation(tokens, "student", student.options.max_length)
    tokens_of_copies = tokenize(tokenizer, copies, student.options.max_length)
    tokens = replace(tokens, token_ids=tokens.token_ids + tokens_of_copies.token_ids)
    index = {text: i for i, text in enumerate(texts)}
    if teacher is None:
        return Corpus(index, tokens, teacher=None, target=None)

    _warn_of_truncation(teacher.tokenize(texts), "teacher", teacher.max_length)

    def encode() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        vectors = cached_vectors(teacher, [*texts, *copies])
        if isinstance(teacher, Committee):
            # Members that have learned a pair's label say next to nothing else about that pair.
            for member, rows in teacher.honest(texts).items():
                vectors[rows] = cached_vectors(teacher.members[member], [texts[row] for row in rows])
        return vectors, alignment_targets(vectors, student.encoder_weight.shape[0])

    vectors, targets = map(torch.from_numpy, distributed.broadcast_from_main(encode))
    return Corpus(index, tokens, vectors, targets)


def alignment_targets(
    vectors: NDArray[np.float32], dimension: int, *, of: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the teacher's vectors in the student's dimension, the targets of the alignment.

    With equal dimensions they are unchanged. In fewer dimensions they are projected on the leading right singular
    vectors, whose inner products are the best approximation of the teacher's (Eckart & Young, 1936). In more
    dimensions they are padded with zeros.

    Args:
        vectors: the teacher's unit vectors, float32 (n, d).
        dimension: r.
        of: other vectors to project on the same singular vectors, float32 (m, d); the default is ``vectors``.

    Returns:
        Unit vectors, float32 (n, r) or (m, r).
    """
    width, of = vectors.shape[1], vectors if of is None else of
    if dimension >= width:
        return np.pad(of, ((0, 0), (0, dimension - width)))
    _, basis = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    projected = of @ basis[:, ::-1][:, :dimension].astype(np.float32)
    return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)  # type: ignore[no-any-return]


def _warn_of_truncation(tokens: TokenizedTexts, model: str, limit: int) -> None:
    if tokens.truncated:
        message = "%d of %d texts are longer than %s.max_length = %d tokens"
        logger.warning(message, tokens.truncated, len(tokens.token_ids), model, limit)
