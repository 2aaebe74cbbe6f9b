"""L_lm: cross-entropy on the LLM's own answer to the prompted pair, the decoder path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def label_lm(logits: Tensor, word: Tensor) -> Tensor:
    """Compute the mean of −log softmax(o_i)[w_i] over the k prompted pairs of a batch.

    Only the label word is scored: predicting the user's texts in the prompt would teach nothing about the label.

    Args:
        logits: next-token logits o after each prompt, float, shape (k, vocabulary); computed in float32.
        word: token w of the correct label word, int64, shape (k,).

    Returns:
        A scalar, float32; 0 without a pair.

    Reference:
        Li et al., ACL 2025 (arXiv 2507.05617): the language-modelling loss of the student beside its distillation.
    """
    return functional.cross_entropy(logits.float(), word, reduction="sum") / max(len(word), 1)
