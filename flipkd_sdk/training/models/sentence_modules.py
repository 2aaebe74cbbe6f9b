"""The files of a sentence-transformers directory beside its encoder: pooling, dense layers and prompt.

They are read and written here because sentence-transformers would not save code. It imports classes and passes keyword
arguments that a directory names, so a check of the same files would have to come first; it takes Tanh for an activation
that it does not trust; it cannot start an encoder from its configuration alone (``teacher.from_scratch``); and it
brings scikit-learn and scipy along.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.training.models.pretrained import loading

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

_MODULES_FILE = "modules.json"
_PROMPTS_FILE = "config_sentence_transformers.json"
_LENGTH_FILE = "sentence_bert_config.json"
_POOLING = "1_Pooling"
_ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
_SINGLE = ("Transformer", "Pooling", "Normalize")
# Keys of releases before 6, and the present names of their pooling.
_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}


@dataclass(frozen=True, slots=True, eq=False)
class SentenceModules:
    """Modules between the states of an encoder and the vector of a text."""

    pooling: str = "mean"
    """``mean`` over the tokens, ``cls`` for the first one, ``last`` for the last one."""
    dense: nn.Sequential = field(default_factory=nn.Sequential)
    """Linear layers of the pooled vector, each with its activation; often none."""
    prompt: str = ""
    """Text before every text that the encoder reads."""


def read_modules(directory: Path, *, with_dense: bool = True) -> SentenceModules:
    """Read pooling, dense layers and default prompt; mean pooling alone if the directory names none.

    Args:
        directory: an encoder's directory.
        with_dense: read the dense layers.

    Raises:
        ModelSourceError: a file is damaged, or the vectors depend on something that is not supported.
    """
    listed = _listed(directory)
    pooling = "mean"
    for kind, path in listed:
        if kind == "Pooling":
            pooling = _read_pooling(path / "config.json")
    layers = [layer for path in dense_directories(directory) for layer in _read_dense(path)] if with_dense else []
    return SentenceModules(pooling, nn.Sequential(*layers), _read_prompt(directory / _PROMPTS_FILE))


def read_max_length(directory: Path) -> int | None:
    """Return the most tokens of a text that a sentence-transformers directory sets, or None.

    Raises:
        ModelSourceError: the file is damaged.
    """
    file = directory / _LENGTH_FILE
    if not file.is_file():
        return None
    with loading(str(file), "options of sentence-transformers"):
        length = dict(_read(file)).get("max_seq_length")
        return None if length is None else int(length)


def dense_directories(directory: Path) -> list[Path]:
    """Return the directories of the dense layers that ``modules.json`` lists, in order.

    Raises:
        ModelSourceError: it lists a module that is not supported.
    """
    return [path for kind, path in _listed(directory) if kind == "Dense"]


def write_modules(directory: Path, width: int, modules: SentenceModules) -> None:
    """Write what `read_modules` reads beside a saved encoder with states of a width."""
    listed = [("", "Transformer"), (_POOLING, "Pooling")]
    # The old keys are read by every release of sentence-transformers.
    modes = {key: _POOLINGS.get(name) == modules.pooling for key, name in _POOLING_KEYS.items()}
    (directory / _POOLING).mkdir()
    _write(directory / _POOLING / "config.json", {"word_embedding_dimension": width, **modes})
    layers = list(modules.dense)
    for linear, activation in zip(layers[::2], layers[1::2], strict=True):
        path = directory / f"{len(listed)}_Dense"
        listed.append((path.name, "Dense"))
        path.mkdir()
        size = {"in_features": linear.in_features, "out_features": linear.out_features}
        kind = f"{type(activation).__module__}.{type(activation).__name__}"
        _write(path / "config.json", {**size, "bias": linear.bias is not None, "activation_function": kind})
        weights = linear.state_dict(prefix="linear.")
        save_file({name: weight.contiguous() for name, weight in weights.items()}, path / "model.safetensors")
    listed.append((f"{len(listed)}_Normalize", "Normalize"))
    content = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(listed)
    ]
    _write(directory / _MODULES_FILE, content)
    if modules.prompt:
        _write(directory / _PROMPTS_FILE, {"prompts": {"default": modules.prompt}, "default_prompt_name": "default"})


def _listed(directory: Path) -> list[tuple[str, Path]]:
    """Return kind and directory of each module; those of old directories without ``modules.json`` by their names."""
    file = directory / _MODULES_FILE
    if not file.is_file():
        pooling = directory / _POOLING
        return [("Pooling", pooling)] if (pooling / "config.json").is_file() else []
    with loading(str(file), "a list of modules"):
        entries = [(str(entry["type"]), PurePosixPath(str(entry["path"]))) for entry in _read(file)]
    listed = []
    for name, path in entries:
        package, _, kind = name.rpartition(".")
        if package.partition(".")[0] != "sentence_transformers" or kind not in _ORDER:
            raise ModelSourceError(
                f"{file}: a module of type {name} is not supported, only {', '.join(_ORDER)} of sentence_transformers; "
                "choose another teacher, or give its scores as a column (teacher.kind = 'scores')"
            )
        if path.is_absolute() or ".." in path.parts:
            raise ModelSourceError(f"{file}: {path} is outside the directory")
        listed.append((kind, directory / path))
    positions = [_ORDER.index(kind) for kind, _ in listed]
    if positions != sorted(positions) or any(positions.count(_ORDER.index(kind)) > 1 for kind in _SINGLE):
        raise ModelSourceError(f"{file}: modules in the order {', '.join(_ORDER)} are supported, and no other")
    return listed


def _read_pooling(file: Path) -> str:
    options = _read(file)
    with loading(str(file), "options of a pooling"):
        modes = options.get("pooling_mode") or [name for key, name in _POOLING_KEYS.items() if options.get(key)]
        names = [modes] if isinstance(modes, str) else list(modes) or ["mean"]
        if len(names) != 1 or names[0] not in _POOLINGS:
            raise ModelSourceError(f"{file}: pooling {' and '.join(names)}: only {', '.join(_POOLINGS)} are supported")
        if options.get("include_prompt", True) is not True:
            raise ModelSourceError(f"{file}: include_prompt = false is not supported")
    return _POOLINGS[names[0]]


def _read_dense(path: Path) -> list[nn.Module]:
    options = _read(path / "config.json")
    with loading(str(path), "a dense layer"):
        package, _, name = str(options.get("activation_function", "torch.nn.Tanh")).rpartition(".")
        if name not in _ACTIVATIONS or not package.startswith("torch.nn"):
            known = ", ".join(_ACTIVATIONS)
            raise ModelSourceError(f"{path / 'config.json'}: activation {name} is not supported, only {known}")
        inputs = {options.get(key, "sentence_embedding") for key in ("module_input_name", "module_output_name")}
        if options.get("use_residual") or inputs != {"sentence_embedding"}:
            raise ModelSourceError(f"{path / 'config.json'}: a residual or another input or output is not supported")
        linear = nn.Linear(options["in_features"], options["out_features"], bias=options.get("bias", True))
        file = path / "model.safetensors"
        weights = load_file(file) if file.is_file() else torch.load(path / "pytorch_model.bin", weights_only=True)
        linear.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
        if not all(bool(torch.isfinite(weight).all()) for weight in linear.parameters()):
            raise ModelSourceError(f"{path}: weights are NaN or infinite")
    return [linear.float(), _ACTIVATIONS[name]()]


def _read_prompt(file: Path) -> str:
    if not file.is_file():
        return ""
    with loading(str(file), "options of sentence-transformers"):
        options = dict(_read(file))
        name = options.get("default_prompt_name")
        return "" if name is None else str(options["prompts"][name])


def _read(file: Path) -> Any:  # noqa: ANN401 - JSON
    with loading(str(file), "JSON"):
        return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
