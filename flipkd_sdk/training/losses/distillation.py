"""L_dist: the student's vectors follow the geometry of the teacher's; no label is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def similarity_regression(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean over i ≠ j of (cos(z_i, z_j) − cos(t_i, t_j))² over the n texts of a batch.

    The diagonal is left out: both cosines are 1 there, which would only lower the mean.

    Args:
        student: unit vectors z of the student, float, shape (n, r).
        teacher: unit vectors t of the teacher for the same texts, float, shape (n, d); d and r may differ.

    Returns:
        A scalar; 0 for a single text.

    Reference:
        Park et al., "Relational knowledge distillation", CVPR 2019; on cosines instead of distances.
    """
    count = len(student)
    difference = student @ student.T - teacher @ teacher.T
    off_diagonal = difference.square().sum() - difference.diagonal().square().sum()
    return off_diagonal / max(count * (count - 1), 1)


def pair_regression(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean of (s_i − t_i)² over the k pairs of a batch, L_dist for a teacher that scores pairs.

    Args:
        student: cosines s of the pairs, float, shape (k,).
        teacher: the teacher's scores t of the same pairs, float, shape (k,).

    Returns:
        A scalar.
    """
    return (student - teacher).square().mean()


def vector_alignment(student: Tensor, target: Tensor) -> Tensor:
    """Compute the mean of 1 − cos(z_i, τ_i) over the n texts of a batch.

    It converges far faster than `similarity_regression`: each text has a target of its own, and not only distances to
    the other texts of its batch.

    Args:
        student: unit vectors z, float, shape (n, r).
        target: unit vectors τ of the same texts, float, shape (n, r): the teacher's vectors in r dimensions (see
            `flipkd_sdk.training.data.corpus.alignment_targets`).

    Returns:
        A scalar in [0, 2].
    """
    return 1.0 - (student * target).sum(dim=1).mean()
