"""Experiment trackers: the integrations of transformers, given the records of each stage."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING

from transformers.integrations.integration_utils import TensorBoardCallback, get_reporting_integration_callbacks

from flipkd_sdk.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import TrainerCallback

_PACKAGES = {"mlflow": ("mlflow",), "wandb": ("wandb",), "tensorboard": ("tensorboard", "tensorboardX")}
"""Modules of which a tracker needs one, the first being the name of its package."""


def check_installed(names: Sequence[str]) -> None:
    """Check that the packages of trackers are installed.

    Raises:
        ConfigError: one is missing.
    """
    for name in names:
        modules = _PACKAGES[name]
        if not any(map(importlib.util.find_spec, modules)):
            raise ConfigError(f"option report_to: {name} is not installed; run: pip install {modules[0]}")


def trackers(names: Sequence[str], directory: Path, stage: str) -> list[TrainerCallback]:
    """Return the callbacks of trackers for one stage.

    Args:
        names: the trackers.
        directory: the run directory, where TensorBoard's files go unless ``TENSORBOARD_LOGGING_DIR`` is set.
        stage: name of the stage.
    """
    made = [kind() for kind in get_reporting_integration_callbacks(list(names))]
    for callback in made:
        if isinstance(callback, TensorBoardCallback) and "TENSORBOARD_LOGGING_DIR" not in os.environ:
            # Beside the checkpoints, Trainer's choice, the files would be removed with these.
            callback.logging_dir = str(directory / "tensorboard" / stage)
    return made


def end_run(names: Sequence[str]) -> None:
    """End the run of a stage in trackers that would write the next stage into it."""
    if "wandb" in names:
        importlib.import_module("wandb").finish()
