from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tiny_data import corpus_of
from tiny_models import tiny_pairs
from torch import nn

from flipkd_sdk.errors import ConfigError, TrainingError
from flipkd_sdk.training.config.schema import StageConfig
from flipkd_sdk.training.data.datasets import PairDataset, TextDataset
from flipkd_sdk.training.loop import callback, trackers, trainer
from flipkd_sdk.training.loop.estimate import estimate
from flipkd_sdk.training.loop.stage import Stage, Undo
from flipkd_sdk.training.loop.trainer import train_stage
from flipkd_sdk.training.losses import vector_alignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
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
        "development": lambda: {"average_precision": 0.5},
        "run_directory": directory,
        "seed": 0,
    }
    return Stage(**(options | changes))


class Adapted(nn.Module):
    """One number for every text, out of an A and a B on which it depends alike."""

    def __init__(self) -> None:
        super().__init__()
        self.lora_A = nn.ParameterDict({"default": nn.Parameter(torch.zeros(1, 1))})
        self.lora_B = nn.ParameterDict({"default": nn.Parameter(torch.zeros(1, 1))})

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return (self.lora_A["default"] + self.lora_B["default"]).expand(len(input_ids), 1)


def scripted(values: list[float], seen: Callable[[], None] = lambda: None) -> Callable[[], dict[str, float]]:
    remaining = iter(values)

    def development() -> dict[str, float]:
        seen()
        return {"average_precision": next(remaining)}

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


@pytest.mark.parametrize(("swapped", "kept"), [(1, False), (15, True)])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_stage_whose_gain_may_be_chance_is_undone_also_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: int, kept: bool, stopped: bool
) -> None:
    monkeypatch.setattr(callback, "CERTAINTY", 0.9)
    label = np.array([0, 1] * 30, np.int8)
    # The best epoch puts all matches above all others; at the start so many pairs are swapped.
    perfect = np.where(label == 1, 0.8, 0.2) + np.linspace(0, 0.1, 60)
    start = perfect.copy()
    start[: 2 * swapped] = 1 - start[: 2 * swapped]
    scores = iter([start, perfect, perfect])
    model, at_epoch = Bag(), []

    def seen() -> None:
        at_epoch.append(model.trained.detach().clone())
        if stopped and len(at_epoch) == 3:
            raise RuntimeError

    undo = Undo(lambda: next(scores).astype(np.float32), label)
    measures = [0.5, 0.6, 0.1, 0.1, 0.1]
    options: dict[str, Any] = {"model": model, "development": scripted(measures, seen), "undo": undo}
    if stopped:
        with pytest.raises(RuntimeError):
            train_stage(toy_stage(tmp_path, **options))
        model.trained.data.zero_()
    records = train_stage(toy_stage(tmp_path, resume=stopped, **options))
    assert [record["undone"] < 0.9 for record in records if "undone" in record] == ([] if kept else [True])
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][-1] == records[-1]
    assert not torch.equal(at_epoch[0], at_epoch[1])
    assert torch.equal(model.trained, at_epoch[1 if kept else 0])


def test_another_criterion_chooses_the_epoch_and_ends_the_stage(tmp_path: Path) -> None:
    model = Bag()
    at_epoch: list[torch.Tensor] = []
    measures = iter([(0.9, 0.1), (0.2, 0.8), (0.3, 0.7), (0.4, 0.6)])

    def development() -> dict[str, float]:
        at_epoch.append(model.trained.detach().clone())
        return dict(zip(("average_precision", "agreement"), next(measures), strict=True))

    config = StageConfig(epochs=9, batch_size=8, learning_rate=0.1, patience=2)
    train_stage(toy_stage(tmp_path, model=model, config=config, development=development, criterion="agreement"))
    assert len(at_epoch) == 4
    assert torch.equal(model.trained, at_epoch[1])


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "metrics.jsonl"]


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

    message = rf"stage 'toy', step 5: the loss term 'broken' became {shown} on texts \d+(, \d+){{7}}; weights and text"
    with pytest.raises(TrainingError, match=message):
        train_stage(toy_stage(tmp_path, objective=objective))


def test_the_rows_of_a_broken_batch_are_told(tmp_path: Path) -> None:
    dataset = PairDataset(corpus_of(PAIRS), PAIRS, np.ones(len(PAIRS), dtype=bool))
    seen: list[list[int]] = []

    def objective(vectors: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append(sorted(batch["row"].tolist()))
        return align(vectors, batch) | {"broken": torch.tensor(float("nan") if len(seen) == 2 else 0.0)}

    with pytest.raises(TrainingError) as raised:
        train_stage(toy_stage(tmp_path, dataset=dataset, objective=objective))
    rows = ", ".join(str(row + 1) for row in seen[-1])
    assert f"step 1: the loss term 'broken' became nan on train pairs {rows}; " in str(raised.value)


def test_weights_that_broke_are_told_from_texts_that_did(tmp_path: Path) -> None:
    for name in ("trained", "vectors"):
        model = Bag()

        def objective(
            vectors: torch.Tensor, batch: Mapping[str, torch.Tensor], name: str = name, model: Bag = model
        ) -> dict[str, torch.Tensor]:
            broken = model.trained.data if name == "trained" else vectors.data
            broken[0] = float("nan")
            return {"loss": vectors.sum() * float("nan")}

        cause = "the weights are no longer finite.*learning_rate" if name == "trained" else "text vectors are not"
        with pytest.raises(TrainingError, match=cause):
            train_stage(toy_stage(tmp_path, model=model, objective=objective))


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("[enforce] you can't allocate memory: 9")]
)
def test_out_of_memory_names_the_setting(tmp_path: Path, error: Exception) -> None:
    def objective(*_: object) -> dict[str, torch.Tensor]:
        raise error

    with pytest.raises(TrainingError, match="'toy': out of memory; lower the stage's batch_size, which is 8, or the"):
        train_stage(toy_stage(tmp_path, objective=objective))


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    def objective(*_: object) -> dict[str, torch.Tensor]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        train_stage(toy_stage(tmp_path, objective=objective))


class KilledError(Exception):
    pass


def dying(step: int, kill: Callable[[], None]) -> Callable[..., dict[str, torch.Tensor]]:
    """An objective that gives in at a step, counted from 0."""
    steps = itertools.count()

    def objective(vectors: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if next(steps) == step:
            kill()
        return align(vectors, batch)

    return objective


def killed() -> None:
    raise KilledError


def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def score_of(model: Bag) -> Callable[[], dict[str, float]]:
    """A measure that depends on the weights, so that a run that goes on differently is found out."""
    return lambda: {"average_precision": float(torch.sin(model.trained.detach().double().sum() * 40))}


def finished(directory: Path, **changes: Any) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    directory.mkdir(exist_ok=True)
    model = Bag()
    records = train_stage(toy_stage(directory, model=model, development=score_of(model), **changes))
    return model.trained.detach(), records


@pytest.fixture
def foreground() -> Iterator[None]:
    """As at a terminal: a shell's background jobs, these tests among them, may ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("step", [1, 3, 4, 5, 6, 8, 11])
@pytest.mark.parametrize("kill", [killed, interrupted])
def test_a_stopped_stage_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, kill: Callable[[], None]
) -> None:
    monkeypatch.setattr(trainer, "_CHECKPOINT_STEPS", 3)
    whole, records = finished(tmp_path / "whole")
    with pytest.raises((KilledError, KeyboardInterrupt)):
        finished(tmp_path / "cut", objective=dying(step, kill))
    if kill is interrupted:
        assert (tmp_path / "cut" / "checkpoints" / "toy" / f"checkpoint-{step + 1}" / "progress.json").is_file()
    torch.manual_seed(step)
    again, same = finished(tmp_path / "cut", resume=True)
    assert torch.equal(again, whole)
    scores = [[r for r in each if "average_precision" in r] for each in (records, same)]
    assert scores[0] == scores[1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_checkpoint_is_written_when_its_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, expected in ((math.inf, set()), (0.0, {"checkpoint-1", "checkpoint-2"})):
        monkeypatch.setattr(callback, "CHECKPOINT_SECONDS", (seconds, seconds))
        with pytest.raises(KilledError):
            finished(tmp_path / str(seconds), objective=dying(2, killed))
        assert {path.name for path in tmp_path.glob(f"{seconds}/checkpoints/toy/*")} == expected


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_CHECKPOINT_STEPS", 3)
    whole, _ = finished(tmp_path / "whole")
    with pytest.raises(KilledError):
        finished(tmp_path / "cut", objective=dying(8, killed))
    last = max((tmp_path / "cut" / "checkpoints" / "toy").iterdir(), key=lambda path: int(path.name[11:]))
    (last / "progress.json").unlink()
    (last / "optimizer.pt").write_bytes(b"half")
    again, _ = finished(tmp_path / "cut", resume=True)
    assert torch.equal(again, whole)


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    whole, records = finished(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints" / "toy").iterdir()] == ["finished"]
    again, same = finished(tmp_path, resume=True, objective=dying(0, killed))
    assert torch.equal(again, whole)
    assert same == records


def test_patience_ends_a_stage(tmp_path: Path) -> None:
    config = StageConfig(epochs=9, batch_size=8, learning_rate=0.1, patience=2)
    records = train_stage(toy_stage(tmp_path, config=config, development=scripted([0.1, 0.5, 0.4, 0.3])))
    assert [record["epoch"] for record in records if "average_precision" in record] == [0, 1, 2, 3]


def test_the_estimate_changes_nothing_and_counts_what_is_kept(tmp_path: Path) -> None:
    stage = toy_stage(tmp_path)
    before, state = stage.model.get_parameter("trained").clone(), torch.get_rng_state()
    expected = estimate(stage, 100)
    assert torch.equal(stage.model.get_parameter("trained"), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert expected.steps == 100
    assert expected.seconds > 0
    weights, training = 2 * 400 * 3 * 4, 400 * 3 * 12
    tokens = 8 * max(stage.dataset.lengths) * 3 * 4
    assert weights + training + tokens <= expected.memory < weights + training + 10 * tokens
    assert "for 100 steps, and 0.0 GiB of memory" in str(expected)


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


@pytest.mark.parametrize("method", ["_save", "_load_from_checkpoint"])
def test_a_trainer_without_a_method_that_is_overridden_is_refused(method: str) -> None:
    script = (
        f"import transformers\ndelattr(transformers.Trainer, {method!r})\nimport flipkd_sdk.training.loop.trainer\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert f"Trainer has no {method}; install transformers 5" in done.stderr


@pytest.mark.parametrize("ratio", [1.0, 8.0])
def test_b_learns_as_many_times_as_fast_as_a_as_it_is_told(ratio: float, tmp_path: Path) -> None:
    model = Adapted()
    config = StageConfig(epochs=2, batch_size=8, learning_rate=0.01, loraplus_lr_ratio=ratio)
    train_stage(
        toy_stage(
            tmp_path,
            model=model,
            config=config,
            objective=lambda vectors, _: {"sum": vectors.mean()},
            development=scripted([0.1, 0.2, 0.3]),
        )
    )
    # AdamW moves a weight whose gradient stays the same by its rate in each step.
    assert model.lora_A["default"].item() < 0
    assert model.lora_B["default"].item() == pytest.approx(ratio * model.lora_A["default"].item(), rel=1e-4)


def test_mlflow_gets_the_loss_and_the_measures_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the tracker needs: pip install mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "tracked").as_uri())
    _, records = finished(tmp_path / "run", report_to=("mlflow",))
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.runName"] == "run toy"
    measured = [record["average_precision"] for record in records if "average_precision" in record]
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "average_precision")
    assert [metric.value for metric in history] == pytest.approx(measured)
    assert "loss" in run.data.metrics


def test_a_tracker_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"^option report_to: wandb is not installed; run: pip install wandb$"):
        trackers.check_installed(("wandb",))
    trackers.check_installed(())
