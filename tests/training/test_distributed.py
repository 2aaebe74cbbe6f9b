from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_config, tiny_pairs

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation import bootstrap
from flipkd_sdk.pairs import write_pairs
from flipkd_sdk.training import distributed
from flipkd_sdk.training.loop import callback
from flipkd_sdk.training.run import train
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from flipkd_sdk.training.config.schema import TrainConfig

SECONDS = 900  # for a hang alone: on a busy machine two processes take their time
# As imported, before a fixture replaces them.
RESAMPLES, CERTAINTY = bootstrap.RESAMPLES, callback.CERTAINTY


def test_alone_a_process_is_the_main_one_and_has_all_of_a_batch() -> None:
    distributed.start()
    assert (distributed.process_count(), distributed.is_main()) == (1, True)
    assert distributed.local_rows([3, 1, 2]) == [3, 1, 2]
    part = torch.ones(3, 2)
    assert distributed.gather(part, 3) is part
    assert distributed.broadcast_from_main(lambda: 5) == 5
    assert [distributed.any_process(flag) for flag in (True, False)] == [True, False]
    with distributed.main_first():
        distributed.barrier()


def test_a_launcher_that_starts_one_process_where_several_were_asked_for_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    distributed.start()
    assert not caplog.records
    monkeypatch.setenv("MASTER_PORT", "29500")  # as accelerate launch --cpu --num_processes 2 does
    distributed.start()
    assert "accelerate launch --cpu has started a single process; leave --cpu out and pass --multi_gpu" in caplog.text


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True, "avx2": True}, True), ({"bf16": False}, False), ({}, False)],
)
def test_a_cpu_has_bfloat16_where_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert distributed.has_bf16() is expected


def test_what_the_cpu_has_says_nothing_of_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "device", lambda: torch.device("mps"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True})
    assert distributed.has_bf16() is False


@given(st.lists(st.integers(0, 99), min_size=1, max_size=40), st.integers(2, 5))
def test_shares_have_one_length_and_make_up_the_batch_in_the_order_of_its_rows(rows: list[int], count: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "process_count", lambda: count)
        shares = []
        for rank in range(count):
            patch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            shares.append(torch.tensor(distributed.local_rows(rows)))
    assert {len(share) for share in shares} == {-(-len(rows) // count)}
    assert torch.stack(shares, dim=1).flatten()[: len(rows)].tolist() == rows


def test_a_batch_that_cannot_be_shared_out_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "process_count", lambda: 3)
    config = tiny_config(tmp_path, alignment={"batch_size": 9}, labels={"batch_size": 8})
    message = r"^option labels.batch_size = 8 cannot be split over 3 processes; choose a multiple of 3$"
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    distributed.refuse_indivisible({"alignment.batch_size": 9})


def write_toml(path: Path, config: TrainConfig) -> None:
    content = config.model_dump(mode="json", exclude_unset=True)
    lines = [f"precision = {json.dumps(content.pop('precision'))}"]
    for section, options in content.items():
        lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in options.items())]
    path.write_text("\n".join(lines), encoding="utf-8")


def launch(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Train in two processes on the CPU; what hangs is killed with all that it started."""
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    command = [sys.executable, "-m", *launcher, "-m", "flipkd_sdk.cli.main", "train", *arguments]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "FLIPKD_CACHE": str(directory / "cache"),
        "HF_HOME": str(directory / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=directory, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            output, errors = process.communicate(timeout=SECONDS)
        except BaseException:
            for started in [*psutil.Process(process.pid).children(recursive=True), process]:
                started.kill()
            raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def records_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def without_dropout(teacher: Path) -> None:
    """Masks differ from process to process."""
    path = teacher / "config.json"
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | off))


def test_two_processes_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Launched processes undo a stage whose gain may be chance, so this one must, too.
    monkeypatch.setattr(bootstrap, "RESAMPLES", RESAMPLES)
    monkeypatch.setattr(callback, "CERTAINTY", CERTAINTY)
    # Batches of 8 pairs and 16 texts out of 45 and 90: the last ones are short, and 5 prompts do not go round.
    terms = {"cosent": 0.5, "label_lm": 0.5}
    changes = {"alignment": {"epochs": 2}, "labels": {"epochs": 2}, "teacher": {"epochs": 2, "learning_rate": 1e-3}}
    config = tiny_config(tmp_path, loss=terms, **changes)
    without_dropout(tmp_path / "teacher")
    write_pairs(tiny_pairs(45), tmp_path / "train.csv")
    write_toml(tmp_path / "train.toml", config)

    one = train(config, tmp_path / "one")
    done = launch(tmp_path, "train.toml", "--out", "two")
    assert done.returncode == 0, done.stderr
    two = read_run(tmp_path / "two").result

    expected, found = records_of(tmp_path / "one"), records_of(tmp_path / "two")
    assert [record.keys() for record in found] == [record.keys() for record in expected]
    for wanted, record in zip(expected, found, strict=True):
        losses = [name for name in wanted if name not in ("stage", "grad_norm")]
        assert [record[name] for name in losses] == pytest.approx([wanted[name] for name in losses], abs=1e-4)
        assert record.get("grad_norm", 0) == pytest.approx(wanted.get("grad_norm", 0), rel=1e-3)
    assert {"cosent", "label_lm", "mcl", "similarity", "alignment", "grad_norm"} <= found[-2].keys() | found[-1].keys()
    for system, splits in one.measures.items():
        for split, measures in splits.items():
            assert two.measures[system][split] == pytest.approx(measures, abs=1e-4)
    names = [sorted(path.name for path in (tmp_path / run).iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]
    assert done.stdout.count("test split, 24 pairs") == 1
    assert len(list((tmp_path / "cache" / "teacher_vectors").iterdir())) == 2  # of the teacher as is, and tuned


def test_what_is_wrong_ends_all_processes(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, data={"pairs": tmp_path / "absent.csv"})
    write_toml(tmp_path / "train.toml", config)
    done = launch(tmp_path, "train.toml", "--out", "run")
    assert done.returncode != 0
    assert done.stderr.count("flipkd: error: ") == 1
    assert not (tmp_path / "run").exists()
