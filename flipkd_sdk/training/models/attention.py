"""Eager attention where it trains faster than PyTorch's fused attention (SDPA)."""

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
    """Switch the model to the attention that trains fastest on this device, and back at the end.

    On the CPU in bfloat16 that is eager attention: the backward pass of the fused attention is slow there.

    Args:
        model: any module; models of transformers inside it are switched.
        bf16: the stage computes in bfloat16.
    """
    fused: list[PreTrainedModel] = []
    if bf16 and distributed.device().type == "cpu":
        fused = [
            part
            for part in model.modules()
            if isinstance(part, PreTrainedModel) and getattr(part.config, "_attn_implementation", None) == "sdpa"
        ]
    for part in fused:
        part.set_attn_implementation("eager")
    try:
        yield
    finally:
        for part in fused:
            part.set_attn_implementation("sdpa")
