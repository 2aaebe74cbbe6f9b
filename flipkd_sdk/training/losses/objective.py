"""The student's objective on one batch: w_mcl·L_mcl + w_dist·L_dist + w_lm·L_lm + w_cosent·CoSENT."""

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
    """Compute the weighted loss terms of a batch of texts, or of pairs if the batch has labels.

    Args:
        vectors: the student's unit vectors, float, shape (n, r).
        batch: float ``teacher`` (n, d) and ``target`` (n, r) of a teacher that encodes texts, or float
            ``teacher_score`` (k,) of one that scores pairs. For k = n/2 pairs, the first texts before the second ones,
            also int64 ``text`` (n,), int64 ``label`` (k,) and bool ``keep`` (k,); pairs that are not kept are used by
            L_dist alone. For the decoder path also float ``logits`` (k, vocabulary) and int64 ``word`` (k,).
        config: weights and hyperparameters.

    Returns:
        Scalars by name: ``similarity``, ``alignment`` and, for pairs, ``mcl`` (our reconstruction), ``cosent`` and
        ``label_lm``; terms of weight 0 are left out.
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
    negative = _in_batch_negatives(batch["text"])
    if "teacher" in batch:
        teacher_first, teacher_second = batch["teacher"].chunk(2)
        teacher_matrix = teacher_first @ teacher_second.T
        teacher = teacher_matrix.diagonal()
        positive = (batch["label"] == 1) & keep
        if bool(positive.any()):
            # A pair closer than the mean kept match may be an unlabelled match, so it is no negative.
            negative &= teacher_matrix < teacher[positive].mean()
        in_batch_teacher = teacher_matrix[negative]
    else:
        teacher = batch["teacher_score"]
        # The teacher has not scored these pairs; the mean score of labelled non-matches stands in for theirs.
        non_matches = teacher[(batch["label"] == 0) & keep]
        mean = non_matches.mean() if len(non_matches) else teacher.new_zeros(())
        in_batch_teacher = mean.expand(int(negative.sum()))
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


def _in_batch_negatives(text: Tensor) -> Tensor:
    """Return the mask of in-batch negatives (a_i, b_j) that share no text with a labelled pair, bool (k, k).

    A pair is excluded if a_i and b_j are the same text, or if a_i = a_j or b_j = b_i: then (a_i, b_j) is itself a
    labelled pair of the batch.
    """
    a, b = text.chunk(2)
    return (a[:, None] != b[None, :]) & (a[:, None] != a[None, :]) & (b[:, None] != b[None, :])
