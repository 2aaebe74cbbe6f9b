"""Reading of weights that a run wrote: every damage is one line that names the file, and nothing is unpickled."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from flipkd_sdk.errors import FlipKDError, TrainingError
from flipkd_sdk.training.models.pretrained import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

_REMEDY = "restore the file or train again"


def read_weights(file: Path, expected: Mapping[str, Tensor], *, more: bool = False) -> dict[str, Tensor]:
    """Read a safetensors file that must hold certain weights.

    Args:
        file: the file.
        expected: tensors of the names and shapes that the file must contain.
        more: accept further names in the file, and leave them out.

    Raises:
        TrainingError: the file is damaged or contains other weights; the message names the first difference.
    """
    with readable(file):
        weights = load_file(file)
    if missing := sorted(expected.keys() - weights.keys()):
        raise TrainingError(f"{file}: {len(missing)} weights are missing, such as {missing[0]}; {_REMEDY}")
    if not more and (extra := sorted(weights.keys() - expected.keys())):
        raise TrainingError(f"{file}: {len(extra)} weights do not belong to this model, such as {extra[0]}; {_REMEDY}")
    for name, tensor in expected.items():
        weight = weights[name]
        if weight.shape != tensor.shape or not weight.is_floating_point():
            wanted, found = (f"{value.dtype} of shape {tuple(value.shape)}" for value in (tensor, weight))
            raise TrainingError(f"{file}: {name} is {found} instead of {wanted}; {_REMEDY}")
        if not bool(torch.isfinite(weight).all()):
            raise TrainingError(f"{file}: {name} contains NaN or infinite values; {_REMEDY}")
    return {name: weights[name] for name in expected}


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file of a run into a `TrainingError` of one line."""
    try:
        yield
    except FlipKDError:
        raise
    except Exception as error:
        raise TrainingError(f"{file}: cannot be read: {first_line(error)}; {_REMEDY}") from error
