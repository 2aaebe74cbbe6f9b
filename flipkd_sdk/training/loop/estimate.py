"""Estimate of a stage's time and memory, measured on its own batches before the first step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from flipkd_sdk.training.loop.checkpoints import trainable

if TYPE_CHECKING:
    from torch import Tensor

    from flipkd_sdk.training.loop.stage import Stage

# A gradient and AdamW's two moments, in float32.
_BYTES_PER_TRAINED_WEIGHT = 12
# The backward pass costs about twice the forward pass.
_PASSES = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected cost of a stage."""

    steps: int
    seconds: float
    """Time of all steps, without the measurements between epochs."""
    memory: int
    """Bytes of weights, gradients, optimizer states and the longest batch's activations."""

    def __str__(self) -> str:
        minutes = self.seconds / 60
        about = f"{minutes:.0f} min" if minutes >= 1 else f"{self.seconds:.0f} s"
        return f"about {about} for {self.steps:,} steps, and {self.memory / 2**30:.1f} GiB of memory"


def estimate(stage: Stage, steps: int) -> Estimate:
    """Time a forward pass of a batch of middle length, and count the activations of the longest batch.

    Weights and random states are unchanged.
    """
    order = sorted(range(len(stage.dataset)), key=stage.dataset.lengths.__getitem__)
    size = min(stage.config.batch_size, len(order))
    middle = max(0, len(order) // 2 - size // 2)
    with torch.random.fork_rng():
        started = time.perf_counter()
        _saved_bytes(stage, order[middle : middle + size])
        seconds = _PASSES * (time.perf_counter() - started) * steps
        saved = _saved_bytes(stage, order[-size:])
    weights = sum(weight.numel() * weight.element_size() for weight in stage.model.parameters())
    trained = sum(weight.numel() for weight in trainable(stage.model).values())
    return Estimate(steps, seconds, weights + _BYTES_PER_TRAINED_WEIGHT * trained + saved)


def _saved_bytes(stage: Stage, items: list[int]) -> int:
    """Return the bytes that a batch's forward pass saves for the backward pass, without the weights."""
    own = {weight.untyped_storage().data_ptr() for weight in stage.model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = next(stage.model.parameters()).device
    batch = {name: value.to(device) for name, value in stage.dataset.collate(items).items()}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=stage.bf16)
    with autocast, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        stage.outputs(stage.model, batch)
    return sum(saved.values())
