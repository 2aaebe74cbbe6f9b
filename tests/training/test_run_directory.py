from __future__ import annotations

import json
import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest
from old_run import copy_old_run

from flipkd_sdk.errors import OutputExistsError, TrainingError
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.pairs import read_pairs
from flipkd_sdk.training.evaluate_models import encode_with
from flipkd_sdk.training.run_directory import (
    BASE,
    CONFIG_FILE,
    RESULT_FILE,
    prepare,
    read_config,
    read_run,
    reopen,
    trained_student,
    write_config,
    write_result,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_finished_run_is_read_back(tiny_run: Path) -> None:
    run = read_run(tiny_run)
    assert run.directory == tiny_run
    assert (run.adapter / "adapter_model.safetensors").is_file()
    assert run.result.pairs == {"train": 48, "dev": 24, "test": 24}
    split = run.split("dev")
    assert split is not None
    assert split.a == read_pairs(run.config.data.dev or "").a
    assert run.split("absent") is None


def test_what_is_written_is_what_is_read(tiny_run: Path, tmp_path: Path) -> None:
    run = read_run(tiny_run)
    write_config(tmp_path, run.config)
    write_result(tmp_path, run.result)
    for name in (CONFIG_FILE, RESULT_FILE):
        assert (tmp_path / name).read_bytes() == (tiny_run / name).read_bytes()


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    return copy_old_run(tmp_path / "old")


def change_config(directory: Path, section: str, **options: object) -> None:
    content = json.loads((directory / CONFIG_FILE).read_text())
    content[section].update(options)
    (directory / CONFIG_FILE).write_text(json.dumps(content))


def test_a_run_of_release_0_1_0_is_read_and_its_student_has_the_measures_of_then(old_run: Path) -> None:
    run = read_run(old_run)
    assert run.config.preset is None
    assert run.config.noise_filter.positive_quantile == 0.01
    assert run.base is None
    student, tokenizer = trained_student(run)
    test = run.split("test")
    assert test is not None
    cosines = encoder_cosines(partial(encode_with, student, tokenizer), test)
    measured = average_precision(cosines, test.label)
    assert measured == pytest.approx(run.result.measures["student"]["test"]["average_precision"], abs=1e-6)


def test_a_removed_choice_does_not_keep_a_finished_run_from_being_read(old_run: Path) -> None:
    change_config(old_run, "mining", negatives=2)
    change_config(old_run, "student", blocks="spread")
    (old_run / BASE).mkdir()
    assert read_run(old_run).base == old_run / BASE


@pytest.mark.parametrize(("section", "option", "value"), [("mining", "negatives", 2), ("student", "blocks", "spread")])
def test_an_unfinished_run_with_a_removed_choice_is_not_resumed(
    old_run: Path, section: str, option: str, value: object
) -> None:
    expected = read_config(old_run)
    (old_run / RESULT_FILE).unlink()
    assert read_config(old_run) == expected
    change_config(old_run, section, **{option: value})
    message = (
        rf"config.json: this release has no option {section}.{option} = {value!r}, so it cannot resume; train again"
    )
    with pytest.raises(TrainingError, match=message):
        read_config(old_run)
    with pytest.raises(TrainingError, match=message):
        reopen(old_run, expected)


def test_a_result_of_an_earlier_release_is_read(tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    content = json.loads((path / RESULT_FILE).read_text())
    for name in ("intervals", "queries", "exemplars", "learned_queries", "retrieval", "retrieval_intervals"):
        del content[name]
    (path / RESULT_FILE).write_text(json.dumps(content))
    config = json.loads((path / CONFIG_FILE).read_text())
    for name in ("queries", "exemplars", "intent_column"):
        del config["data"][name]
    (path / CONFIG_FILE).write_text(json.dumps(config))
    run = read_run(path)
    assert run.result.measures == read_run(tiny_run).result.measures
    assert run.result.intervals == run.result.retrieval == {}
    assert run.config == read_run(tiny_run).config


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no such directory; expected a run directory made by 'flipkd train'"),
        (lambda path: (path / CONFIG_FILE).unlink(), "config.json: missing; not a run directory"),
        (lambda path: (path / RESULT_FILE).unlink(), "result.json: missing; the training run did not finish"),
        (lambda path: (path / RESULT_FILE).write_text("{"), "result.json: .*the file was changed"),
        (
            lambda path: (path / CONFIG_FILE).write_text(json.dumps({"data": {"pairs": "x"}, "sed": 1})),
            "config.json: sed: .*the file was changed or is of another release",
        ),
    ],
)
def test_what_is_no_finished_run_is_named(
    tiny_run: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    damage(path)
    with pytest.raises(TrainingError, match=message) as raised:
        read_run(path)
    assert "\n" not in str(raised.value)


def test_an_empty_or_absent_directory_is_prepared(tmp_path: Path) -> None:
    prepare(tmp_path, overwrite=False)
    prepare(tmp_path / "deep" / "down", overwrite=False)
    assert (tmp_path / "deep" / "down").is_dir()


def test_an_earlier_run_is_replaced_on_request_alone(tmp_path: Path) -> None:
    for name in (CONFIG_FILE, "stale"):
        (tmp_path / name).touch()
    with pytest.raises(
        OutputExistsError, match="exists already; pass --overwrite to replace it or choose another path"
    ):
        prepare(tmp_path, overwrite=False)
    prepare(tmp_path, overwrite=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_no_run_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").touch()
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(OutputExistsError):
            prepare(path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").is_file()


def test_a_run_behind_a_link_is_replaced_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / CONFIG_FILE).touch()
    link = tmp_path / "link"
    link.symlink_to(target)
    prepare(link, overwrite=True)
    assert link.is_symlink()
    assert not list(target.iterdir())
