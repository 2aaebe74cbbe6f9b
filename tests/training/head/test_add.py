"""The pair head as a step of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny_models import tiny_config, write_tiny_run

from flipkd_sdk.errors import MatcherDirectoryError, TrainingError
from flipkd_sdk.training.head.files import read_head
from flipkd_sdk.training.run import train
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from pathlib import Path

HEAD = {
    "enabled": True,
    "context": 6,
    "lexical": 4,
    "neurons": 8,
    "epochs": 2,
    "teacher_pairs": 60,
    "sibling_pairs": 20,
}


@pytest.fixture(scope="module")
def run_with_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_run(tmp_path_factory.mktemp("runs") / "run", head=HEAD, contrast={"language": "en"})


def test_a_run_measures_the_student_with_and_without_its_head(run_with_head: Path) -> None:
    result = read_run(run_with_head).result
    assert {"student", "student with head"} <= result.measures.keys()
    assert result.head is not None
    assert result.head.examples.keys() == {"labels", "contrast", "teacher"}
    assert result.head.contrast
    assert [epoch["epoch"] for epoch in result.head.history] == [1, 2]


def test_the_head_costs_no_more_precision_than_allowed(run_with_head: Path) -> None:
    result = read_run(run_with_head).result
    measures = {name: splits["dev"]["average_precision"] for name, splits in result.measures.items()}
    assert result.head is not None
    assert 0.1 <= result.head.share <= 1
    if result.head.share > 0.1:
        assert measures["student with head"] >= measures["student"] - 0.0021


def test_a_head_that_is_off_leaves_nothing(tmp_path: Path) -> None:
    result = train(tiny_config(_inputs(tmp_path)), tmp_path / "run")
    assert result.head is None
    assert not (tmp_path / "run" / "head").exists()


def test_the_head_of_a_run_is_read_back(run_with_head: Path) -> None:
    weights, maps = read_head(run_with_head)
    assert maps.context_weight.shape == (6, 32)
    assert maps.lexical_weight.shape[0] == 4
    assert weights.dimension == 10


def test_maps_that_are_no_arrays_are_refused(run_with_head: Path, tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "maps.npz").write_bytes(b"no archive")
    with pytest.raises(TrainingError, match=r"maps\.npz: not the maps of a pair head"):
        read_head(tmp_path)


def test_weights_of_another_head_are_refused(run_with_head: Path, tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    for name in ("maps.npz", "head.npz"):
        (tmp_path / "head" / name).write_bytes((run_with_head / "head" / name).read_bytes())
    with np.load(run_with_head / "head" / "maps.npz") as content:
        arrays = dict(content)
    np.savez(tmp_path / "head" / "maps.npz", **(arrays | {"lexical_bias": arrays["lexical_bias"][:-1]}))
    with pytest.raises(MatcherDirectoryError, match="dimension 10 instead of 9"):
        read_head(tmp_path)


def _inputs(tmp_path: Path) -> Path:
    (tmp_path / "inputs").mkdir()
    return tmp_path / "inputs"
