"""The student's total objective: w_mcl·L_mcl + w_dist·L_dist + w_lm·L_lm + w_cosent·CoSENT, out of one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.training.losses import (
    cosent,
    label_lm,
    margin_contrastive,
    pair_regression,
    similarity_regression,
    vector_alignment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from flipkd_sdk.training.config.schema import LossConfig


def flipped_distillation(vectors: Tensor, batch: Mapping[str, Tensor], config: LossConfig) -> dict[str, Tensor]:
    """The weighted loss terms of a batch of texts, or of pairs where it carries labels.

    Args:
        vectors: the student's unit vectors, shape (n, r).
        batch: ``teacher`` (n, d) and ``target`` (n, r) of a teacher that has vectors, ``teacher_score`` (k,) of one
            that scores pairs; for k = n/2 pairs also ``text`` (n,), ``label`` (k,) and
            ``keep`` (k,), the first texts before the second ones; for the decoder path ``logits`` (k, vocabulary) and
            ``word`` (k,). Pairs that are not to be kept serve L_dist alone.
        config: weights and shapes.

    Returns:
        Scalars by name: ``similarity``, ``alignment`` and, for pairs, ``mcl``, ``cosent`` and ``label_lm``; those of
            weight 0 are left out.
    """
    terms = {}
    if config.similarity and "teacher" in batch:
        terms["similarity"] = config.similarity * similarity_regression(vectors, batch["teacher"])
    elif config.similarity and "teacher_score" in batch:
        terms["similarity"] = config.similarity * pair_regression(_pair_cosines(vectors), batch["teacher_score"])
    if config.alignment and "target" in batch:
        terms["alignment"] = config.alignment * vector_alignment(vectors, batch["target"])
    if "label" in batch and config.mcl:
        terms["mcl"] = config.mcl * _contrast(vectors, batch, config)
    if "label" in batch and config.cosent:
        keep = batch["keep"]
        terms["cosent"] = config.cosent * cosent(_pair_cosines(vectors)[keep], batch["label"][keep], scale=config.scale)
    if "logits" in batch and config.label_lm:
        keep = batch["keep"]
        terms["label_lm"] = config.label_lm * label_lm(batch["logits"][keep], batch["word"][keep])
    return terms


def _pair_cosines(vectors: Tensor) -> Tensor:
    first, second = vectors.chunk(2)
    return (first * second).sum(dim=1)


def _contrast(vectors: Tensor, batch: Mapping[str, Tensor], config: LossConfig) -> Tensor:
    first, second = vectors.chunk(2)
    student_matrix = first @ second.T
    keep = batch["keep"]
    negative = _of_other_texts(batch["text"])
    if "teacher" in batch:
        teacher_first, teacher_second = batch["teacher"].chunk(2)
        teacher_matrix = teacher_first @ teacher_second.T
        teacher = teacher_matrix.diagonal()
        positive = (batch["label"] == 1) & keep
        if bool(positive.any()):
            # As close as a match: closer than the mean of the labelled matches that the noise filter keeps.
            negative &= teacher_matrix < teacher[positive].mean()
        in_batch_teacher = teacher_matrix[negative]
    else:
        teacher = batch["teacher_score"]
        # What the teacher would say of them is not known; it is taken to be what it says of labelled non-matches.
        unlike = teacher[(batch["label"] == 0) & keep]
        in_batch_teacher = (unlike.mean() if len(unlike) else teacher.new_zeros(())).expand(int(negative.sum()))
    return margin_contrastive(
        student_matrix.diagonal()[keep],
        teacher[keep],
        batch["label"][keep],
        in_batch_student=student_matrix[negative],
        in_batch_teacher=in_batch_teacher,
        margin=config.margin,
        scale=config.scale,
        tolerance=config.tolerance,
    )


def _of_other_texts(text: Tensor) -> Tensor:
    """Which (a_i, b_j) no equal text speaks against as negatives, bool (k, k).

    That is where a_i and b_j are one text; or a_i is a_j as well, or b_j is b_i, so that (a_i, b_j) is a labelled pair
    of the batch itself.
    """
    a, b = text.chunk(2)
    return (a[:, None] != b[None, :]) & (a[:, None] != a[None, :]) & (b[:, None] != b[None, :])
