from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from test_batches import corpus_of
from tiny_models import tiny_pairs
from torch import nn

from flipkd_sdk.errors import TrainingError
from flipkd_sdk.training.batches import PairDataset, TextDataset
from flipkd_sdk.training.config import StageConfig
from flipkd_sdk.training.losses import vector_alignment
from flipkd_sdk.training.trainer import Stage, train_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PAIRS = tiny_pairs(16)


class Bag(nn.Module):
    """A sum of token vectors, at unit length; half of it is frozen."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.frozen = nn.Parameter(torch.randn(400, 3, generator=random), requires_grad=False)
        self.trained = nn.Parameter(torch.randn(400, 3, generator=random))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        vectors = (self.frozen + self.trained)[input_ids] * attention_mask[..., None]
        return nn.functional.normalize(vectors.sum(dim=1), dim=1)


def align(vectors: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"alignment": vector_alignment(vectors, nn.functional.normalize(batch["target"], dim=1))}


def toy_stage(directory: Path, **changes: Any) -> Stage:
    options = {
        "name": "toy",
        "model": Bag(),
        "dataset": TextDataset(corpus_of(PAIRS)),
        "objective": align,
        "config": StageConfig(epochs=3, batch_size=8, learning_rate=0.1),
        "development": lambda: 0.5,
        "run_directory": directory,
        "seed": 0,
    }
    return Stage(**(options | changes))


def scripted(values: list[float], seen: Callable[[], None] = lambda: None) -> Callable[[], float]:
    remaining = iter(values)

    def development() -> float:
        seen()
        return next(remaining)

    return development


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.1, 0.2, 0.9, 0.4], 2), ([0.1, 0.9, 0.2, 0.4], 1), ([0.1, 0.1, 0.1, 0.8], 3), ([0.9, 0.2, 0.4, 0.3], 0)],
)
def test_the_weights_of_the_best_epoch_are_restored(tmp_path: Path, scores: list[float], best: int) -> None:
    model = Bag()
    before = model.frozen.clone()
    at_epoch: list[torch.Tensor] = []
    development = scripted(scores, lambda: at_epoch.append(model.trained.detach().clone()))
    train_stage(toy_stage(tmp_path, model=model, development=development))
    assert len(at_epoch) == 4
    assert not torch.equal(at_epoch[0], at_epoch[1])
    assert torch.equal(model.trained, at_epoch[best])
    assert torch.equal(model.frozen, before)


def test_the_development_pairs_are_scored_in_evaluation_mode(tmp_path: Path) -> None:
    model = Bag()
    modes: list[bool] = []
    train_stage(toy_stage(tmp_path, model=model, development=scripted([0.1] * 4, lambda: modes.append(model.training))))
    assert modes == [False] * 4


def test_training_lowers_the_loss_and_records_it(tmp_path: Path) -> None:
    records = train_stage(toy_stage(tmp_path, development=scripted([0.05, 0.1, 0.2, 0.3])))
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == records
    assert all({"stage", "epoch", "step"} <= record.keys() for record in records)
    scores = [record for record in records if "average_precision" in record]
    losses = [record for record in records if "loss" in record]
    assert [(record["epoch"], record["step"], record["average_precision"]) for record in scores] == [
        (0, 0, 0.05),
        (1.0, 4, 0.1),
        (2.0, 8, 0.2),
        (3.0, 12, 0.3),
    ]
    assert [record["step"] for record in losses] == [4, 8, 12]
    assert losses[-1]["alignment"] < 0.9 * losses[0]["alignment"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_record_holds_the_mean_of_each_term_since_the_last_one(tmp_path: Path) -> None:
    seen: list[float] = []

    def objective(vectors: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append(float(len(seen)))
        return {"counted": torch.tensor(seen[-1]), **align(vectors, batch)}

    config = StageConfig(epochs=3, batch_size=1, learning_rate=0.0)
    records = train_stage(toy_stage(tmp_path, objective=objective, config=config))
    losses = [record for record in records if "loss" in record]
    start = 0
    for record in losses:
        assert record["counted"] == pytest.approx(np.mean(seen[start : record["step"]]))
        assert record["loss"] == pytest.approx(record["counted"] + record["alignment"], rel=1e-5)
        start = record["step"]
    assert start == len(seen) == 3 * 32


def test_a_stage_without_epochs_is_skipped(tmp_path: Path) -> None:
    config = StageConfig(epochs=0, batch_size=8, learning_rate=0.1)
    assert train_stage(toy_stage(tmp_path, config=config, development=lambda: pytest.fail("was run"))) == []
    assert not list(tmp_path.iterdir())


def test_half_an_epoch_is_measured_too(tmp_path: Path) -> None:
    config = StageConfig(epochs=0.5, batch_size=8, learning_rate=0.1)
    records = train_stage(toy_stage(tmp_path, config=config))
    assert {record["step"] for record in records} == {0, 2}
    assert any("average_precision" in record for record in records)


@pytest.mark.parametrize(("bad", "shown"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_a_broken_loss_stops_the_training_and_is_named(tmp_path: Path, bad: float, shown: str) -> None:
    steps = iter(range(100))

    def objective(vectors: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return align(vectors, batch) | {"broken": torch.tensor(bad if next(steps) == 5 else 0.0)}

    with pytest.raises(TrainingError, match=rf"stage 'toy', step 5: the loss term 'broken' became {shown}; lower"):
        train_stage(toy_stage(tmp_path, objective=objective))


def trained_weights(directory: Path, *, seed: int, global_seed: int) -> torch.Tensor:
    directory.mkdir()
    torch.manual_seed(global_seed)
    stage = toy_stage(directory, seed=seed, development=scripted([0.0, 0.1, 0.2, 0.3]))
    train_stage(stage)
    return stage.model.get_parameter("trained").detach()


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    first = trained_weights(tmp_path / "a", seed=1, global_seed=5)
    assert torch.equal(first, trained_weights(tmp_path / "b", seed=1, global_seed=6))
    assert not torch.equal(first, trained_weights(tmp_path / "c", seed=2, global_seed=5))


def test_batches_hold_every_item_once_an_epoch_and_texts_of_similar_length(tmp_path: Path) -> None:
    pairs = tiny_pairs(64)
    dataset = PairDataset(corpus_of(pairs), pairs, np.ones(64, dtype=bool))
    batches: list[list[int]] = []

    def objective(vectors: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        batches.append((batch["text"].chunk(2)[0] // 2).tolist())
        return align(vectors, batch)

    def padding(order: list[list[int]]) -> int:
        return sum(max(dataset.lengths[i] for i in batch) - dataset.lengths[j] for batch in order for j in batch)

    config = StageConfig(epochs=2, batch_size=4, learning_rate=0.1)
    train_stage(toy_stage(tmp_path, dataset=dataset, objective=objective, config=config))
    first, second = batches[:16], batches[16:]
    assert first != second
    rng = np.random.default_rng(0)
    by_chance = [padding(rng.permutation(64).reshape(16, 4).tolist()) for _ in range(20)]
    for epoch in (first, second):
        assert sorted(i for batch in epoch for i in batch) == list(range(64))
        assert padding(epoch) < 0.7 * min(by_chance)
