"""CoSENT: a ranking loss that puts every match above every non-match. The teacher is fine-tuned with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def cosent(similarity: Tensor, label: Tensor, *, scale: float = 20.0) -> Tensor:
    """Compute log(1 + Σ_{u,v: y_u > y_v} exp(λ·(s_v − s_u))) over the n pairs of a batch.

    Only the order of the cosines counts. A regression on labels would also prescribe their values.

    Args:
        similarity: cosines s of the pairs, float, shape (n,).
        label: labels y, int or float, shape (n,).
        scale: λ, the inverse temperature.

    Returns:
        A scalar of the dtype of ``similarity``; 0 if all labels are equal.

    Reference:
        Su Jianlin, "CoSENT: a sentence vector scheme more effective than Sentence-BERT", 2022.
    """
    difference = scale * (similarity[None, :] - similarity[:, None])
    wrong = difference[label[:, None] > label[None, :]]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)
