"""L_lm: the LLM says itself whether the two texts mean the same. This is the decoder path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def label_lm(logits: Tensor, word: Tensor) -> Tensor:
    """Mean over the pairs of −log softmax(o_i)[w_i]: cross-entropy on the label word after the prompted pair.

    Only the label word is scored, never the prompt: to predict the user's texts would teach nothing about the label.

    Args:
        logits: the LLM's next-token logits o after the prompt, shape (k, vocabulary).
        word: token w of the right label word, int64, shape (k,).

    Returns:
        A scalar; 0 for no pair.

    Reference:
        Li et al., ACL 2025 (arXiv 2507.05617): the language-modelling loss of the student beside its distillation.
    """
    return functional.cross_entropy(logits.float(), word, reduction="sum") / max(len(word), 1)
