"""The description of one training stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from flipkd_sdk.training.loop import checkpoints

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.training.config.schema import StageConfig
    from flipkd_sdk.training.data.datasets import PairDataset, TextDataset

Objective = Callable[[Tensor, Mapping[str, Tensor]], dict[str, Tensor]]
"""(text vectors (batch, r), the batch) → weighted loss terms by name; their sum is minimised."""

_TEXTS = ("input_ids", "attention_mask")
_PROMPTS = ("prompt_ids", "prompt_mask")


@dataclass(frozen=True, slots=True, eq=False)
class Undo:
    """Development pairs on which a stage has to gain more than chance, or it is undone."""

    scores: Callable[[], NDArray[np.float32]]
    """Scores of the pairs with the model's present weights, shape (n,)."""
    label: NDArray[np.integer]
    """Shape (n,)."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stage:
    """One training stage: model, data, objective, evaluation."""

    name: str
    model: nn.Module
    """Token ids and mask → unit vectors; with ``prompt_ids`` and ``prompt_mask`` → (unit vectors, logits)."""
    dataset: TextDataset | PairDataset
    objective: Objective
    config: StageConfig
    development: Callable[[], dict[str, float]]
    """Measures on the development pairs with the model's present weights, by name; higher is better."""
    run_directory: Path
    """Directory of ``metrics.jsonl``, which is appended to, and of ``checkpoints/``."""
    seed: int
    resume: bool = False
    """Continue from the last checkpoint if there is one."""
    bf16: bool = False
    """Compute in bfloat16, with the weights in float32."""
    criterion: str = "average_precision"
    """Measure that decides which epoch is the best."""
    report_to: tuple[str, ...] = ()
    """Experiment trackers."""
    undo: Undo | None = None
    """Development pairs that decide whether the stage is kept; None keeps it if its best epoch is better than none."""

    @property
    def checkpoints(self) -> Path:
        """Directory of this stage's checkpoints."""
        return self.run_directory / checkpoints.DIRECTORY / self.name

    def outputs(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the model's vectors of a batch, and the batch with ``logits`` added if it has prompts."""
        if _PROMPTS[0] not in batch:
            return model(*(batch[name] for name in _TEXTS)), dict(batch)
        vectors, logits = model(*(batch[name] for name in (*_TEXTS, *_PROMPTS)))
        return vectors, {**batch, "logits": logits}
