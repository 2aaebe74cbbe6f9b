"""L_mcl, margin-aware contrastive learning. This is our reconstruction.

The paper (Li et al., ACL 2025, arXiv 2507.05617) says in words what its loss does: two margin zones, between which
positives and negatives are separated, and inside which differences are kept, adaptively, as the teacher sees them. Its
formula is not public to us; the one below does what those words say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def margin_contrastive(
    student: Tensor,
    teacher: Tensor,
    label: Tensor,
    *,
    in_batch_student: Tensor | None = None,
    in_batch_teacher: Tensor | None = None,
    margin: float = 0.1,
    scale: float = 20.0,
    tolerance: float = 0.05,
) -> Tensor:
    """H(labelled couples) + H(couples with an in-batch negative), H the mean of a smooth hinge.

    A couple (u, v) costs h = (1/λ)·log(1 + exp(λ·(s_v − s_u + m_uv))). The labelled ones are those with y_u > y_v, in
    the zone between the classes, where m_uv = max(t_u − t_v, m0): the teacher's difference, and m0 at least, where the
    teacher is unsure or wrong. And those with y_u = y_v and t_u > t_v + ε, in the zones inside each class, where
    m_uv = t_u − t_v: a pair that the teacher sees as closer must be closer by as much. An in-batch negative v stands
    below every positive u, with the margin of the zone between the classes.

    So the labels ask for something of their own only where the teacher falls short of them; elsewhere this term and
    L_dist want the same. A mean, because the few worst couples, which decide a log-sum-exp, are the mislabelled ones.

    Args:
        student: cosines s of the labelled pairs, shape (k,).
        teacher: the teacher's cosines t of them, shape (k,).
        label: 1 for a match, 0 for none, shape (k,).
        in_batch_student: the student's cosines of further pairs known to be negatives, shape (m,); they are not
            ordered among themselves.
        in_batch_teacher: the teacher's cosines of them, shape (m,).
        margin: m0, the least margin between the classes.
        scale: λ, the sharpness of the hinge.
        tolerance: ε, teacher differences inside a class that are too small to trust.

    Returns:
        A scalar; 0 where no couple qualifies.
    """
    between = label[:, None] > label[None, :]
    difference = teacher[:, None] - teacher[None, :]
    within = (label[:, None] == label[None, :]) & (difference > tolerance)
    wanted = torch.where(between, difference.clamp(min=margin), difference)
    loss = _hinge((student[None, :] - student[:, None] + wanted)[between | within], scale)
    if in_batch_student is not None and in_batch_teacher is not None:
        positive = label == 1
        wanted = (teacher[positive, None] - in_batch_teacher[None, :]).clamp(min=margin)
        loss = loss + _hinge(in_batch_student[None, :] - student[positive, None] + wanted, scale)
    return loss


def _hinge(excess: Tensor, scale: float) -> Tensor:
    """Mean of (1/λ)·log(1 + exp(λ·x)); 0 of nothing."""
    return functional.softplus(excess, beta=scale).sum() / max(excess.numel(), 1)
