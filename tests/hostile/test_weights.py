"""Damaged adapters, checkpoints and models: one line that names the file, no traceback, nothing unpickled."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import struct
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_data import corpus_of
from tiny_models import tiny_pairs, write_tiny_llama, write_tiny_run
from torch import nn

from flipkd_sdk.errors import FlipKDError, ModelSourceError, TrainingError
from flipkd_sdk.exporters.export import export
from flipkd_sdk.training.config.schema import StageConfig, StudentConfig
from flipkd_sdk.training.data.datasets import TextDataset
from flipkd_sdk.training.loop import callback, trainer
from flipkd_sdk.training.loop.stage import Stage
from flipkd_sdk.training.loop.trainer import train_stage
from flipkd_sdk.training.models.student import create_student, load_student

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SITE = StudentConfig(layer=1, rank=2)


class Bomb:
    """An object that writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.marker), 0o777)


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor], str], object]) -> None:
    weights = load_file(file)
    change(weights, max(weights))
    save_file(weights, file)


def header(length: int) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(struct.pack("<Q", length) + file.read_bytes()[8:])


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


ANY_FILE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "zero bytes": lambda file: file.write_bytes(b""),
    "a directory": directory,
    "absent": lambda file: file.unlink(),
    "pickle": lambda file: file.write_bytes(pickle.dumps({"state": Bomb(file.parent / "marker")})),
}
JSON: dict[str, Callable[[Path], object]] = ANY_FILE | {
    "a list": lambda file: file.write_text("[]"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "not UTF-8": lambda file: file.write_bytes(b'"\xff"'),
}
SAFETENSORS: dict[str, Callable[[Path], object]] = ANY_FILE | {
    "short header": header(3),
    "huge header": header(2**63),
    "header past the end": header(10**6),
    "wrong dtype": lambda file: rewrite(file, lambda weights, name: weights.update({name: weights[name].long()})),
    "wrong shape": lambda file: rewrite(
        file, lambda weights, name: weights.update({name: weights[name][..., :1].clone()})
    ),
    "NaN": lambda file: rewrite(file, lambda weights, name: weights[name].fill_(float("nan"))),
    "missing": lambda file: rewrite(file, lambda weights, name: weights.pop(name)),
    "JSON": lambda file: file.write_text("{}"),
}
EXTRA: dict[str, Callable[[Path], object]] = {
    "extra": lambda file: rewrite(file, lambda weights, _: weights.update({"x": torch.ones(1)}))
}
TORCH: dict[str, Callable[[Path], object]] = ANY_FILE | {
    "a list": lambda file: torch.save([1], file),
    "empty": lambda file: torch.save({}, file),
    "a bomb": lambda file: torch.save({"state": Bomb(file.parent / "marker")}, file),
}


def refused(file: Path, load: Callable[[], object], kind: type[FlipKDError] = TrainingError) -> None:
    with pytest.raises(kind) as raised:
        load()
    message = str(raised.value)
    assert "\n" not in message
    assert str(file) in message or str(file.parent) in message
    assert not (file.parent / "marker").exists(), "unpickled"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def adapter(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapters") / "adapter"
    create_student(str(llama), SITE).model.save_pretrained(str(path))
    return path


@pytest.mark.parametrize("damage", SAFETENSORS)
def test_damaged_weights_of_an_adapter_are_refused(llama: Path, adapter: Path, tmp_path: Path, damage: str) -> None:
    path = shutil.copytree(adapter, tmp_path / "adapter")
    file = path / "adapter_model.safetensors"
    SAFETENSORS[damage](file)
    refused(file, lambda: load_student(str(llama), path, SITE))


@pytest.mark.parametrize("damage", JSON)
def test_damaged_settings_of_an_adapter_are_refused(llama: Path, adapter: Path, tmp_path: Path, damage: str) -> None:
    path = shutil.copytree(adapter, tmp_path / "adapter")
    file = path / "adapter_config.json"
    JSON[damage](file)
    refused(file, lambda: load_student(str(llama), path, SITE))


@pytest.mark.parametrize("damage", [damage for damage in SAFETENSORS if damage != "wrong dtype"])
def test_damaged_weights_of_a_model_are_refused(llama: Path, tmp_path: Path, damage: str) -> None:
    path = shutil.copytree(llama, tmp_path / "llama")
    SAFETENSORS[damage](path / "model.safetensors")
    refused(path / "model.safetensors", lambda: create_student(str(path), SITE), ModelSourceError)


@pytest.mark.parametrize("damage", JSON)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_damaged_settings_of_a_model_are_refused_or_unused(llama: Path, tmp_path: Path, name: str, damage: str) -> None:
    from flipkd_sdk.training.models.student import load_tokenizer

    path = shutil.copytree(llama, tmp_path / "llama")
    JSON[damage](path / name)
    load = (lambda: create_student(str(path), SITE)) if name == "config.json" else (lambda: load_tokenizer(str(path)))
    if name == "tokenizer_config.json" and damage in ("absent", "a directory"):
        load()  # optional
    else:
        refused(path / name, load, ModelSourceError)


def test_export_of_a_run_with_a_damaged_adapter_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIPKD_CACHE", str(tmp_path / "cache"))
    run = write_tiny_run(tmp_path / "run")
    file = run / "adapter" / "adapter_model.safetensors"
    SAFETENSORS["truncated"](file)
    refused(file, lambda: export(run, tmp_path / "matcher"))
    assert not (tmp_path / "matcher").exists()


class Bag(nn.Module):
    """A sum of token vectors at unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = nn.Parameter(torch.randn(400, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize((self.trained[input_ids] * attention_mask[..., None]).sum(dim=1), dim=1)


class KilledError(Exception):
    pass


def stage(path: Path, *, until: int | None = None, resume: bool = False) -> Stage:
    steps = iter(range(10**6))

    def objective(vectors: torch.Tensor, _: Any) -> dict[str, torch.Tensor]:
        if next(steps) == until:
            raise KilledError
        return {"sum": vectors.sum()}

    return Stage(
        name="toy",
        model=Bag(),
        dataset=TextDataset(corpus_of(tiny_pairs(16))),
        objective=objective,
        config=StageConfig(epochs=2, batch_size=8, learning_rate=0.1),
        development=lambda: {"average_precision": 0.5},
        run_directory=path,
        seed=0,
        resume=resume,
    )


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a checkpoint in the middle of a stage."""
    path = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_CHECKPOINT_STEPS", 3)
        patch.setattr(callback, "CHECKPOINT_SECONDS", (math.inf, math.inf))
        with pytest.raises(KilledError):
            train_stage(stage(path, until=3))
    return path


CHECKPOINT = {
    "model.safetensors": SAFETENSORS | EXTRA,
    "best.safetensors": SAFETENSORS | EXTRA,
    "trainer_state.json": JSON,
    "optimizer.pt": TORCH,
    "scheduler.pt": TORCH,
    "rng_state.pth": TORCH,
    "progress.json": JSON,
}


@pytest.mark.parametrize(("name", "damage"), [(name, damage) for name, all_ in CHECKPOINT.items() for damage in all_])
def test_a_damaged_checkpoint_is_refused(stopped: Path, tmp_path: Path, name: str, damage: str) -> None:
    path = shutil.copytree(stopped, tmp_path / "run")
    (checkpoint,) = (path / "checkpoints" / "toy").glob("checkpoint-*")
    file = checkpoint / name
    CHECKPOINT[name][damage](file)
    if (name, damage) == ("progress.json", "absent"):  # it was cut short, and the stage starts anew
        assert train_stage(stage(path, resume=True))
    else:
        refused(file, lambda: train_stage(stage(path, resume=True)))


def test_an_undamaged_checkpoint_is_resumed(stopped: Path, tmp_path: Path) -> None:
    path = shutil.copytree(stopped, tmp_path / "run")
    train_stage(stage(path, until=5, resume=True))  # of eight steps three are done
