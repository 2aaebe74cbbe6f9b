"""Checkpoints of a stage, from which a killed run resumes to the same result.

transformers' ``Trainer`` writes optimizer, schedule and random states; the stage adds the best weights so far and the
records. A checkpoint without its progress file is incomplete and is ignored.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from transformers import TrainerState
from transformers.trainer_pt_utils import safe_globals

from flipkd_sdk.atomic import write_text
from flipkd_sdk.training.models.weights import read_weights, readable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

DIRECTORY = "checkpoints"
WEIGHTS_FILE = "model.safetensors"
PROGRESS_FILE = "progress.json"
_BEST_FILE = "best.safetensors"
_START_FILE = "start.safetensors"
_FINISHED = "finished"
_TRAINER_FILE = "trainer_state.json"
_STATES = {
    "optimizer.pt": {"state", "param_groups"},
    "scheduler.pt": {"last_epoch"},
    "rng_state*.pth": {"python", "numpy", "cpu"},
}
"""Patterns of the files that ``Trainer`` reads with ``torch.load``, and the keys that it needs in each."""


@dataclass(slots=True, eq=False)
class Progress:
    """Progress of a stage."""

    best: float
    """Measure of the best weights on the development pairs."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    start_weights: dict[str, Tensor] = field(default_factory=dict)
    """Weights before the first step, for a stage that may be undone."""
    scores: dict[str, list[float]] = field(default_factory=dict)
    """Scores of the development pairs at the ``start`` and with the ``best`` weights, for such a stage."""


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that training changes, by name."""
    return {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}


def write_weights(directory: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a checkpoint's weights; the checkpoint is incomplete until `write_progress`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PROGRESS_FILE).unlink(missing_ok=True)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, directory / WEIGHTS_FILE)


def write_progress(directory: Path, progress: Progress) -> None:
    """Write the progress, which completes a checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in progress.best_weights.items()}, directory / _BEST_FILE)
    content = {"best": progress.best, "records": progress.records}
    if progress.start_weights:
        save_file(
            {name: weight.contiguous() for name, weight in progress.start_weights.items()}, directory / _START_FILE
        )
        content["scores"] = progress.scores
    write_text(directory / PROGRESS_FILE, json.dumps(content))


def read_progress(directory: Path, model: nn.Module) -> Progress:
    """Read the progress of a complete checkpoint.

    Raises:
        TrainingError: a file is damaged, or its weights are not those that training changes in the model.
    """
    with readable(directory / PROGRESS_FILE):
        content = json.loads((directory / PROGRESS_FILE).read_text(encoding="utf-8"))
        best, records = float(content["best"]), [dict(record) for record in content["records"]]
        # Checkpoints of earlier releases have no scores, and their stages are not undone.
        scores = {str(name): [float(value) for value in values] for name, values in content.get("scores", {}).items()}
    best_weights = read_weights(directory / _BEST_FILE, trainable(model))
    start_weights = read_weights(directory / _START_FILE, trainable(model)) if scores else {}
    return Progress(best, best_weights, records, start_weights, scores)


def check_states(directory: Path) -> None:
    """Raise unless the states that ``Trainer`` resumes from can be read without unpickling.

    ``Trainer`` itself starts anew without a word where one is missing, and stops with a traceback where one is damaged.

    Raises:
        TrainingError: one of the files is missing or damaged.
    """
    with readable(directory / _TRAINER_FILE):
        TrainerState.load_from_json(str(directory / _TRAINER_FILE))
    for name, keys in _STATES.items():
        for file in sorted(directory.glob(name)) or [directory / name.replace("*", "")]:
            with readable(file), safe_globals():
                state = torch.load(file, map_location="cpu", weights_only=True)
                if missing := keys - state.keys():
                    raise KeyError(f"no {min(missing)} in it")


def latest_checkpoint(stage: Path) -> Path | None:
    """Return the complete checkpoint with most steps, or None."""
    complete = [path.parent for path in stage.glob(f"checkpoint-*/{PROGRESS_FILE}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def write_finished(stage: Path, progress: Progress) -> None:
    """Write the best weights and records of a finished stage, and remove its checkpoints."""
    write_progress(stage / _FINISHED, progress)
    for checkpoint in stage.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def read_finished(stage: Path, model: nn.Module) -> Progress | None:
    """Read the progress of a stage, or return None if it is not finished."""
    directory = stage / _FINISHED
    return read_progress(directory, model) if (directory / PROGRESS_FILE).exists() else None
