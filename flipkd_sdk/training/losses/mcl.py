"""L_mcl, margin-aware contrastive learning. This is our reconstruction.

The paper (Li et al., ACL 2025, arXiv 2507.05617) describes its loss in words: two margin zones separate positives from
negatives, and inside each zone differences are kept adaptively, as the teacher orders them. Its formula is not public
to us; ours implements those words.
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
    """Compute the mean hinge of ordered labelled pairs plus that of positives against in-batch negatives.

    This is our reconstruction of L_mcl. Two pairs (u, v) in this order cost the smooth hinge

        h_uv = (1/λ)·log(1 + exp(λ·(s_v − s_u + m_uv)))

    - between the classes, y_u > y_v: m_uv = max(t_u − t_v, m0), the teacher's difference, but at least m0 in case the
      teacher is unsure or wrong;
    - inside a class, y_u = y_v and t_u > t_v + ε: m_uv = t_u − t_v, so the student keeps the teacher's difference;
    - against an in-batch negative v, for every positive u: the margin between the classes.

    Labels therefore demand more than L_dist only for pairs on which the teacher contradicts them. The hinges are
    averaged, because a log-sum-exp is dominated by the few worst ones, which are the mislabelled pairs.

    Args:
        student: cosines s of the labelled pairs, float, shape (k,).
        teacher: the teacher's cosines t of the same pairs, float, shape (k,).
        label: 1 for a match, 0 for a non-match, int64, shape (k,).
        in_batch_student: the student's cosines of in-batch negatives, float, shape (m,); they are not ordered among
            themselves.
        in_batch_teacher: the teacher's cosines of the same negatives, float, shape (m,).
        margin: m0, the least margin between the classes.
        scale: λ, the sharpness of the hinge.
        tolerance: ε, the largest teacher difference inside a class that is ignored.

    Returns:
        A scalar of the dtype of ``student``; 0 if no two pairs are ordered.

    Reference:
        Reconstructed from the description in Li et al., ACL 2025 (arXiv 2507.05617).
    """
    between = label[:, None] > label[None, :]
    difference = teacher[:, None] - teacher[None, :]
    within = (label[:, None] == label[None, :]) & (difference > tolerance)
    margins = torch.where(between, difference.clamp(min=margin), difference)
    loss = _hinge((student[None, :] - student[:, None] + margins)[between | within], scale)
    if in_batch_student is not None and in_batch_teacher is not None:
        positive = label == 1
        margins = (teacher[positive, None] - in_batch_teacher[None, :]).clamp(min=margin)
        loss = loss + _hinge(in_batch_student[None, :] - student[positive, None] + margins, scale)
    return loss


def _hinge(excess: Tensor, scale: float) -> Tensor:
    """Return the mean of (1/λ)·log(1 + exp(λ·x)); 0 for an empty tensor."""
    return functional.softplus(excess, beta=scale).sum() / max(excess.numel(), 1)
