"""Static students of hostile files and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_config, write_tiny_run

from flipkd_sdk.errors import FlipKDError, ModelSourceError, VerificationError
from flipkd_sdk.exporters import export
from flipkd_sdk.exporters.export import ExportOptions
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models.static import FILE, StaticStudent
from flipkd_sdk.training.run import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STATIC = {"preset": "static", "student": {"layer": 0}, "alignment": {"epochs": 1}, "labels": {"epochs": 0}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLIPKD_CACHE", str(tmp_path / "cache"))
    return write_tiny_run(tmp_path / "run", **STATIC)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def pickled(file: Path) -> None:
    torch.save({"tokens": torch.zeros(1)}, file)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def other_shape(file: Path) -> None:
    weights = load_file(file)
    save_file(weights | {"weight": weights["weight"][:-1].clone()}, file)


def integers(file: Path) -> None:
    weights = load_file(file)
    save_file(weights | {"correction": weights["correction"].to(torch.int32)}, file)


def table_of_tokens(file: Path) -> None:
    save_file(load_file(file) | {"tokens": torch.zeros(3, 3, dtype=torch.int64)}, file)


@pytest.mark.parametrize("damage", [cut, pickled, folder, other_shape, integers, table_of_tokens])
def test_a_damaged_file_is_one_line_that_names_it(run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "adapter" / FILE)
    with pytest.raises(FlipKDError) as caught:
        export.export(run, run.parent / "m")
    assert FILE in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (run.parent / "m").exists()


def test_weights_whose_exponential_overflows_are_refused(run: Path) -> None:
    file = run / "adapter" / FILE
    weights = load_file(file)
    save_file(weights | {"weight": torch.full_like(weights["weight"], 1e4)}, file)
    with pytest.raises(VerificationError, match="a token vector holds NaN or infinite values"):
        export.export(run, run.parent / "m", ExportOptions(variants=("fp32",)))


def test_a_tokenizer_of_another_model_is_refused() -> None:
    student = StaticStudent(torch.zeros(8, 4), StudentConfig(layer=0, module="embedding", site_rank=3))
    with pytest.raises(ModelSourceError, match="the tokenizer has token 8 and the LLM's embedding has 8 rows"):
        student.open_rows([1, 8])


def test_training_that_diverges_names_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIPKD_CACHE", str(tmp_path / "cache"))
    config = tiny_config(tmp_path, **STATIC | {"alignment": {"epochs": 3, "learning_rate": 1e6}})
    with pytest.raises(FlipKDError, match="lower the stage's learning_rate"):
        train(config, tmp_path / "run")
