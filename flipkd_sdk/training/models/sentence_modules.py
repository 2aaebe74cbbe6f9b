"""What a sentence-transformers directory puts on top of the encoder: pooling and dense layers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.training.models.pretrained import loading

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

MODULES_FILE = "modules.json"
POOLING_DIRECTORY = "1_Pooling"
_ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}


def read_pooling(directory: Path) -> str:
    """``mean`` or ``cls``; the mean where nothing is said.

    Raises:
        ModelSourceError: it is another one.
    """
    file = directory / POOLING_DIRECTORY / "config.json"
    if not file.is_file():
        return "mean"
    options = _read(file)
    if options.get("pooling_mode_cls_token"):
        return "cls"
    if options.get("pooling_mode_mean_tokens", True):
        return "mean"
    raise ModelSourceError(f"{file}: only mean and cls pooling are supported")


def dense_directories(directory: Path) -> list[Path]:
    """Where the dense layers lie that ``modules.json`` lists, in order.

    Raises:
        ModelSourceError: it lists a module that would change the vectors in a way that is not supported.
    """
    file = directory / MODULES_FILE
    if not file.is_file():
        return []
    found = []
    for module in _read(file):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Dense":
            found.append(directory / str(module["path"]))
        elif kind not in ("Transformer", "Pooling", "Normalize"):
            raise ModelSourceError(
                f"{file}: a module of type {kind} is not supported, only Transformer, Pooling, Dense and Normalize; "
                "choose another teacher, or give its scores as a column (teacher.kind = 'scores')"
            )
    return found


def read_dense(directory: Path) -> nn.Sequential:
    """The dense layers behind the pooling, each with its activation; empty where there are none.

    Raises:
        ModelSourceError: one cannot be read, or has an activation that is not supported.
    """
    layers: list[nn.Module] = []
    for place in dense_directories(directory):
        options = _read(place / "config.json")
        name = str(options.get("activation_function", "Identity")).rpartition(".")[2]
        if name not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise ModelSourceError(f"{place / 'config.json'}: activation {name} is not supported, only {known}")
        with loading(str(place), "a dense layer"):
            linear = nn.Linear(options["in_features"], options["out_features"], bias=options.get("bias", True))
            file = place / "model.safetensors"
            weights = load_file(file) if file.is_file() else torch.load(place / "pytorch_model.bin", weights_only=True)
            linear.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
        layers += [linear.float(), _ACTIVATIONS[name]()]
    return nn.Sequential(*layers)


def write_modules(directory: Path, pooling: str, width: int, dense: nn.Sequential) -> None:
    """Write pooling and dense layers as sentence-transformers reads them, beside a saved encoder of a hidden width."""
    modules = [("", "Transformer"), (POOLING_DIRECTORY, "Pooling")]
    (directory / POOLING_DIRECTORY).mkdir()
    options: dict[str, Any] = {"word_embedding_dimension": width}
    options |= {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
    _write(directory / POOLING_DIRECTORY / "config.json", options)
    layers = list(dense)
    for linear, activation in zip(layers[::2], layers[1::2], strict=True):
        place = directory / f"{len(modules)}_Dense"
        modules.append((place.name, "Dense"))
        place.mkdir()
        weights = linear.state_dict(prefix="linear.")
        size = {"in_features": linear.in_features, "out_features": linear.out_features}
        kind = f"{type(activation).__module__}.{type(activation).__name__}"
        _write(place / "config.json", {**size, "bias": linear.bias is not None, "activation_function": kind})
        save_file({name: weight.contiguous() for name, weight in weights.items()}, place / "model.safetensors")
    modules.append((f"{len(modules)}_Normalize", "Normalize"))
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    _write(directory / MODULES_FILE, listed)


def _read(file: Path) -> Any:  # noqa: ANN401 - JSON
    with loading(str(file), "JSON"):
        return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
