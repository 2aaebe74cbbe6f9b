"""L_mcl, margin-aware contrastive learning. This is our reconstruction.

The paper (Li et al., ACL 2025, arXiv 2507.05617) says in words what its loss does: two margin zones, between which
positives and negatives are separated, and inside which differences are kept, adaptively, as the teacher sees them. Its
formula is not public to us; the one below does what those words say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

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
    """(1/λ)·log(1 + Σ_{(u,v)} exp(λ·(s_v − s_u + m_uv))) with m_uv = (t_u − t_v) + m0·[y_u ≠ y_v].

    The sum runs over ordered couples (u, v) of pairs of the batch with y_u > y_v (the zone between the classes), or
    y_u = y_v and t_u > t_v + ε (the zones inside each class: a pair that the teacher sees as closer must be closer by
    as much). It is a smooth hinge: couples that keep their margin add nothing, the worst ones dominate.

    Args:
        student: cosines s of the labelled pairs, shape (k,).
        teacher: the teacher's cosines t of them, shape (k,).
        label: 1 for a match, 0 for none, shape (k,).
        in_batch_student: the student's cosines of further pairs known to be negatives, shape (m,); they stand below
            the positives, and are not ordered among themselves.
        in_batch_teacher: the teacher's cosines of them, shape (m,).
        margin: m0, the margin between the classes on top of the teacher's difference.
        scale: λ, the sharpness of the hinge.
        tolerance: ε, teacher differences inside a class that are too small to trust.

    Returns:
        A scalar; 0 where no couple qualifies.
    """
    between = label[:, None] > label[None, :]
    within = (label[:, None] == label[None, :]) & (teacher[:, None] > teacher[None, :] + tolerance)
    excess = student[None, :] - student[:, None] + (teacher[:, None] - teacher[None, :]) + margin * between
    violations = [excess[between | within]]
    if in_batch_student is not None and in_batch_teacher is not None:
        positive = label == 1
        gap = student[positive, None] - in_batch_student[None, :]
        teacher_gap = teacher[positive, None] - in_batch_teacher[None, :]
        violations.append((teacher_gap - gap + margin).flatten())
    exponents = scale * torch.cat(violations)
    return torch.logsumexp(torch.cat([exponents.new_zeros(1), exponents]), dim=0) / scale
