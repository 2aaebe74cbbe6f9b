"""Read-out of a decoder-only LLM as an encoder: z = normalize(pool_over_tokens(A·x)).

x is the input of one linear layer of the LLM, the encoder site; A is the ``lora_A`` weight of that layer's adapter.
Student and exported encoder path share these functions, so both compute the same vectors.

Source: Li et al., "Flipped knowledge distillation for text matching", ACL 2025 (arXiv 2507.05617), which reads LoRA's A
as an encoder and B as a decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor, nn


class _SiteReachedError(Exception):
    """End of a forward pass at the encoder site, whose input the blocks above cannot change."""


def site_input(
    decoder: nn.Module, site: nn.Module, input_ids: Tensor, attention_mask: Tensor, *, attention: str, stop: bool
) -> Tensor:
    """Run the decoder and return the input of the encoder site.

    Args:
        decoder: the LLM without its head.
        site: the linear layer inside it whose input is wanted.
        input_ids: token ids, int64, shape (batch, seq).
        attention_mask: 1 for tokens, 0 for padding, int64, shape (batch, seq).
        attention: ``causal`` or ``bidirectional``.
        stop: end the pass at the site. Tracing needs the whole pass (False); its dead code is dropped at export.

    Returns:
        Hidden states of shape (batch, seq, hidden), of the decoder's dtype.
    """
    reached: list[Tensor] = []

    def capture(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        reached.append(arguments[0])
        if stop:
            raise _SiteReachedError

    handle = site.register_forward_pre_hook(capture)
    try:
        decoder(
            input_ids=input_ids,
            attention_mask=attention_bias(attention_mask, attention, next(decoder.parameters()).dtype),
            position_ids=(attention_mask.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=False,
        )
    except _SiteReachedError:
        pass
    finally:
        handle.remove()
    return reached[0]


def attention_bias(attention_mask: Tensor, attention: str, dtype: torch.dtype) -> Tensor:
    """Return the additive 4-D mask, (batch, 1, seq, seq): 0 for visible tokens, the dtype's minimum for others.

    Every family uses a 4-D mask unchanged, so this makes each of them bidirectional on request.
    """
    length = attention_mask.shape[1]
    visible = attention_mask[:, None, None, :].bool().expand(-1, 1, length, length)
    if attention == "causal":
        visible = visible & torch.ones(length, length, dtype=torch.bool, device=attention_mask.device).tril()
    # Not -inf: a text of padding alone sees nothing, and a softmax over nothing is NaN.
    minimum = torch.tensor(torch.finfo(dtype).min, dtype=dtype, device=attention_mask.device)
    return torch.where(visible, torch.zeros((), dtype=dtype, device=attention_mask.device), minimum)


def text_vectors(hidden: Tensor, encoder_weight: Tensor, attention_mask: Tensor, *, pooling: str) -> Tensor:
    """Pool, project and normalize: hidden (batch, seq, hidden) and A (r, hidden) → unit vectors (batch, r), float32.

    Pooling and projection are both linear, and pooling first is cheaper. A text without tokens has a mean of zero and
    stays the zero vector instead of becoming NaN.
    """
    pooled = pool(hidden, attention_mask, pooling).to(encoder_weight.dtype)
    return functional.normalize(functional.linear(pooled, encoder_weight).float(), dim=-1)


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """Return one vector per text of (batch, seq, hidden): the ``mean`` over its tokens, or its ``last`` token.

    Padding is on the right.
    """
    if pooling == "last":
        last = (attention_mask.sum(dim=1) - 1).clamp(min=0)
        return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1])).squeeze(1)
    # A matrix product sums each text in the same order in every batch; onnxruntime's ReduceSum does not.
    weight = attention_mask[:, None, :].to(hidden.dtype)
    return (weight @ hidden).squeeze(1) / weight.sum(dim=2).clamp(min=1.0)
