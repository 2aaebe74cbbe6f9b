"""Which attention a stage is trained with: PyTorch's fused one, but where its steps are slower than a plain one's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from flipkd_sdk.training import distributed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def fastest_attention(model: nn.Module, *, bf16: bool) -> Iterator[None]:
    """Inside, models of transformers have the attention that trains fastest here; afterwards what they had before.

    On the CPU in bfloat16 that is a softmax between two matrix products: the fused attention goes back through them
    one by one, and slowly.

    Args:
        model: any module; what is no model of transformers stays as it is.
        bf16: whether the stage computes in bfloat16.
    """
    fused: list[PreTrainedModel] = []
    if bf16 and distributed.device().type == "cpu":
        fused = [
            part
            for part in model.modules()
            if isinstance(part, PreTrainedModel) and part.config._attn_implementation == "sdpa"
        ]
    for part in fused:
        part.set_attn_implementation("eager")
    try:
        yield
    finally:
        for part in fused:
            part.set_attn_implementation("sdpa")
