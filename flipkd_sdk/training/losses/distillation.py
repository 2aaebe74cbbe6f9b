"""L_dist: the student's geometry follows the teacher's, with no label looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def similarity_regression(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over i ≠ j of (cos(z_i, z_j) − cos(t_i, t_j))², over all texts of the batch.

    The diagonal is 1 on both sides and would only dilute the mean.

    Args:
        student: unit vectors z of the student, shape (n, r).
        teacher: unit vectors t of the teacher for the same texts, shape (n, d); d and r may differ.

    Returns:
        A scalar; 0 for a single text.

    Reference:
        Relational distillation as in Park et al., CVPR 2019, on cosines instead of distances.
    """
    count = len(student)
    difference = student @ student.T - teacher @ teacher.T
    off_diagonal = difference.square().sum() - difference.diagonal().square().sum()
    return off_diagonal / max(count * (count - 1), 1)


def pair_regression(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the pairs of (s_i − t_i)²: L_dist where the teacher gives scores of pairs and no vectors.

    Args:
        student: cosines s of the pairs, shape (k,).
        teacher: the teacher's scores t of them, shape (k,).

    Returns:
        A scalar.
    """
    return (student - teacher).square().mean()


def vector_alignment(student: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 − cos(z_i, τ_i): each text vector is pulled to its own target.

    It converges far faster than `similarity_regression`, since each text is told where to go and not only how far from
    the others.

    Args:
        student: unit vectors z, shape (n, r).
        target: unit vectors τ of the same texts, shape (n, r): the teacher's, in r dimensions (see
            `flipkd_sdk.training.corpus.alignment_targets`).

    Returns:
        A scalar in [0, 2].
    """
    return 1.0 - (student * target).sum(dim=1).mean()
