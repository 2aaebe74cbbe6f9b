"""CoSENT: every match should score above every non-match. The teacher is fine-tuned with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def cosent(similarity: Tensor, label: Tensor, *, scale: float = 20.0) -> Tensor:
    """log(1 + Σ_{u,v: y_u > y_v} exp(λ·(s_v − s_u))) over all couples of pairs in the batch.

    Only the order counts: no value is prescribed for a cosine, unlike in a regression on labels.

    Args:
        similarity: cosines s of the pairs, float, shape (n,).
        label: labels y, any ordered values, shape (n,).
        scale: λ, the inverse temperature.

    Returns:
        A scalar; 0 where no couple has different labels.

    Reference:
        Su Jianlin, "CoSENT: a sentence vector scheme more effective than Sentence-BERT", 2022.
    """
    difference = scale * (similarity[None, :] - similarity[:, None])
    wrong = difference[label[:, None] > label[None, :]]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)
