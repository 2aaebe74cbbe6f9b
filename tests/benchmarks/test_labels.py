"""The comparison of chosen and random labels, on toy models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from experiments import labels, labels_trained
from tiny_models import tiny_pairs, write_tiny_llama, write_tiny_teacher

from flipkd_sdk.pairs import read_pairs, write_pairs

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = ["--chosen", "20", "--random", "30", "--seeds", "1"]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with toy data and models in the place of the real ones."""
    (tmp_path / "mqp").mkdir()
    for seed, (name, count) in enumerate({"train": 120, "dev": 24, "test": 24}.items()):
        write_pairs(tiny_pairs(count, seed), tmp_path / "mqp" / f"{name}.csv")
    teacher = str(write_tiny_teacher(tmp_path / "teacher"))
    student = {"student.source": str(write_tiny_llama(tmp_path / "llama")), "student.layer": 2}
    small = {"student.rank": 4, "student.site_rank": 16, "student.mlp_width": None}
    for module in (labels, labels_trained):
        monkeypatch.setattr(module, "ENCODER", teacher)
    short = {name: value for name, value in (labels_trained.SHORT | student | small).items() if value is not None}
    monkeypatch.setattr(labels_trained, "SHORT", short)
    monkeypatch.setenv("FLIPKD_DATA", str(tmp_path))
    monkeypatch.setenv("FLIPKD_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_chosen_labels_are_distinct_and_near_the_threshold(toy: Path) -> None:
    sets = {kind: pairs for kind, _, pairs in labels.label_sets(toy / "mqp", 20, 30, 1)}
    assert {kind: len(pairs) for kind, pairs in sets.items()} == {"chosen": 20, "random": 30}
    train = read_pairs(toy / "mqp" / "train.csv")
    answers = {(a, b): label for a, b, label in zip(train.a, train.b, train.label, strict=True)}
    for pairs in sets.values():
        assert len(set(zip(pairs.a, pairs.b, strict=True))) == len(pairs)
        assert all(answers[a, b] == label for a, b, label in zip(pairs.a, pairs.b, pairs.label, strict=True))


def test_trainings_are_written_as_they_end_and_not_repeated(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = toy / "labels-trained.json"
    command = [*OPTIONS, "--work", str(toy / "work"), "--results", str(results)]
    calls: list[Any] = []
    call = labels_trained.call

    def stop_after_one(*arguments: Any) -> int:
        calls.append(arguments)
        return call(*arguments) if len(calls) == 1 else 1

    monkeypatch.setattr(labels_trained, "call", stop_after_one)
    assert CliRunner().invoke(labels_trained.labels_trained, command).exit_code == 1
    found = json.loads(results.read_text(encoding="utf-8"))
    assert list(found["runs"]) == ["chosen-0"] and found["seeds"] == 0 and not found["met"]
    monkeypatch.setattr(labels_trained, "call", call)
    done = CliRunner().invoke(labels_trained.labels_trained, command)
    assert done.exit_code == 0, done.output
    whole = json.loads(results.read_text(encoding="utf-8"))
    assert whole["runs"]["chosen-0"] == found["runs"]["chosen-0"]
    assert {name: run["labels"] for name, run in whole["runs"].items()} == {"chosen-0": 20, "random-0": 30}
    means = whole["mean_average_precision_on_test"]["student"]
    assert means == {kind: whole["runs"][f"{kind}-0"]["student"] for kind in ("chosen", "random")}
    assert not whole["met"]  # One seed is too few.
