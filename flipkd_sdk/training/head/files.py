"""The pair head in a run directory: the weights that score, and the maps that export folds into the graph."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from flipkd_sdk.errors import TrainingError
from flipkd_sdk.evaluation.calibration import Calibration  # noqa: TC001 - pydantic reads the field types at run time
from flipkd_sdk.pair_head.weights import FILE, HeadWeights, read_weights, write_weights

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.training.head.fit import TrainedHead

DIRECTORY = "head"
_MAPS_FILE = "maps.npz"
_NAMES = ("context_weight", "context_bias", "lexical_weight", "lexical_bias")


class HeadResult(BaseModel):
    """Result of the training of a pair head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calibration: Calibration
    """The head's own, fitted on the development split."""
    restraint: float
    """Weight of the squared correction of the cosine on natural pairs in the last epoch."""
    share: float = 1.0
    """Share of the learned correction of the cosine that was kept."""
    examples: dict[str, int]
    """Pairs that it learned from, by source."""
    contrast: dict[str, int]
    """Contrast pairs by kind."""
    contrast_left_out: int
    """Contrast pairs that equal a labelled match and were left out."""
    history: list[dict[str, float]]
    """Per epoch: loss, and average precision on the development pairs."""
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class TokenMaps:
    """Linear maps from hidden states and from token embeddings to the two parts of a token vector."""

    context_weight: NDArray[np.float32]
    """Shape (k, hidden)."""
    context_bias: NDArray[np.float32]
    lexical_weight: NDArray[np.float32]
    """Shape (l, e)."""
    lexical_bias: NDArray[np.float32]


def write_head(directory: Path, head: TrainedHead) -> None:
    """Write a trained head into a run directory."""
    folder = directory / DIRECTORY
    folder.mkdir(exist_ok=True)
    write_weights(folder / FILE, head.module.weights(head.tokens.cues))
    (context, context_bias), (lexical, lexical_bias) = head.maps()
    with (folder / _MAPS_FILE).open("wb") as file:
        np.savez(
            file,
            context_weight=context,
            context_bias=context_bias,
            lexical_weight=lexical,
            lexical_bias=lexical_bias,
        )


def read_head(directory: Path) -> tuple[HeadWeights, TokenMaps]:
    """Read the head of a run directory.

    Raises:
        TrainingError: a file is missing or malformed.
        MatcherDirectoryError: the weights do not fit the maps.
    """
    path = directory / DIRECTORY / _MAPS_FILE
    try:
        with np.load(path, allow_pickle=False) as content:
            maps = TokenMaps(**{name: content[name] for name in _NAMES})
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: not the maps of a pair head ({error}); run 'flipkd train' again") from error
    dimension = len(maps.context_bias) + len(maps.lexical_bias)
    return read_weights(directory / DIRECTORY / FILE, dimension=dimension), maps
