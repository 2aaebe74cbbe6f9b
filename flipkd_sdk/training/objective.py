"""The student's total objective: w_mcl·L_mcl + w_dist·L_dist + w_lm·L_lm + w_cosent·CoSENT, out of one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.training.losses import (
    cosent,
    label_lm,
    margin_contrastive,
    similarity_regression,
    vector_alignment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from flipkd_sdk.training.config import LossConfig


def flipped_distillation(vectors: Tensor, batch: Mapping[str, Tensor], config: LossConfig) -> dict[str, Tensor]:
    """The weighted loss terms of a batch of texts, or of pairs where it carries labels.

    Args:
        vectors: the student's unit vectors, shape (n, r).
        batch: ``teacher`` (n, d) and ``target`` (n, r); for k = n/2 pairs also ``text`` (n,), ``label`` (k,) and
            ``keep`` (k,), the first texts before the second ones; for the decoder path ``logits`` (k, vocabulary) and
            ``word`` (k,). Pairs that are not to be kept serve L_dist alone.
        config: weights and shapes.

    Returns:
        Scalars by name: ``similarity``, ``alignment`` and, for pairs, ``mcl``, ``cosent`` and ``label_lm``; those of
            weight 0 are left out.
    """
    terms = {}
    if config.similarity:
        terms["similarity"] = config.similarity * similarity_regression(vectors, batch["teacher"])
    if config.alignment:
        terms["alignment"] = config.alignment * vector_alignment(vectors, batch["target"])
    if "label" in batch and config.mcl:
        terms["mcl"] = config.mcl * _contrast(vectors, batch, config)
    if "label" in batch and config.cosent:
        first, second = vectors.chunk(2)
        keep = batch["keep"]
        similarity = (first * second).sum(dim=1)[keep]
        terms["cosent"] = config.cosent * cosent(similarity, batch["label"][keep], scale=config.scale)
    if "logits" in batch and config.label_lm:
        keep = batch["keep"]
        terms["label_lm"] = config.label_lm * label_lm(batch["logits"][keep], batch["word"][keep])
    return terms


def _contrast(vectors: Tensor, batch: Mapping[str, Tensor], config: LossConfig) -> Tensor:
    first, second = vectors.chunk(2)
    teacher_first, teacher_second = batch["teacher"].chunk(2)
    student_matrix = first @ second.T
    teacher_matrix = teacher_first @ teacher_second.T
    negative = _in_batch_negatives(teacher_matrix, batch)
    keep = batch["keep"]
    return margin_contrastive(
        student_matrix.diagonal()[keep],
        teacher_matrix.diagonal()[keep],
        batch["label"][keep],
        in_batch_student=student_matrix[negative],
        in_batch_teacher=teacher_matrix[negative],
        margin=config.margin,
        scale=config.scale,
        tolerance=config.tolerance,
    )


def _in_batch_negatives(teacher_matrix: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Which (a_i, b_j) with i ≠ j may serve as negatives.

    Not where an equal text says otherwise: a_i and b_j are one text; or a_i is a_j as well, or b_j is b_i, so that
    (a_i, b_j) is a labelled pair of the batch itself. Nor where the teacher does: it sees them as close as a match,
    which is closer than its mean over the labelled matches that the noise filter keeps.
    """
    a, b = batch["text"].chunk(2)
    negative = (a[:, None] != b[None, :]) & (a[:, None] != a[None, :]) & (b[:, None] != b[None, :])
    positive = (batch["label"] == 1) & batch["keep"]
    if bool(positive.any()):
        negative &= teacher_matrix < teacher_matrix.diagonal()[positive].mean()
    return negative
