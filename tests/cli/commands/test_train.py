from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from tiny_models import tiny_config

from flipkd_sdk.cli.main import cli
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from click.testing import Result

QUICK = [
    *("--set", "labels.epochs=0", "--set", "alignment.epochs=1", "--set", "alignment.fewest_texts=0"),
    *("--set", "student.rank=4", "--set", "teacher.epochs=0"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs")
    tiny_config(path)
    return path


@pytest.fixture(autouse=True)
def places(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIPKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(inputs)


def train(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["train", *map(str, arguments)])


def models() -> list[str]:
    return ["--teacher", "./teacher", "--student", "./llama", "--layer", "2"]


def test_a_run_from_options_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train("--pairs", "train.csv", "--dev", "dev.csv", "--test", "test.csv", *models(), *QUICK, "--out", run)
    assert done.exit_code == 0, done.stderr
    result = read_run(run).result
    head, teacher, student, *_ = done.stdout.splitlines()
    assert head.split("  ")[0] == "test split, 24 pairs"
    for line, name in ((teacher, "teacher"), (student, "student")):
        cells = line.split()
        assert cells[0] == name
        assert cells[1] == f"{result.measures[name]['test']['average_precision']:.4f}"
        assert cells[-1] == f"{result.measures[name]['test']['calibration_error']:.4f}"
    assert str(run / "report.html") in done.stdout
    assert f"flipkd export {run}" in done.stdout


def test_options_come_before_the_file_and_its_paths_are_its_own(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = inputs / "train.toml"
    file.write_text('seed = 1\n[data]\npairs = "train.csv"\ndev = "absent.csv"\n[student]\nrank = 9\nsite_rank = 8\n')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.csv").write_bytes((inputs / "dev.csv").read_bytes())
    monkeypatch.chdir(elsewhere)
    sources = ["--teacher", inputs / "teacher", "--student", inputs / "llama", "--layer", "1", "--seed", "2"]
    done = train(file, "--dev", "mine.csv", *sources, *QUICK, "--out", "run")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("dev split, 24 pairs")
    config = read_run(elsewhere / "run").config
    assert (config.data.pairs, config.data.dev) == (inputs / "train.csv", Path("mine.csv"))
    assert (config.seed, config.student.rank, config.student.site_rank, config.student.layer) == (2, 4, 8, 1)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("student.lyer=4", "option student.lyer: there is no such option"),
        ("student.layer=four", "option student.layer: Input should be a valid integer"),
        ("student.attention=both", "option student.attention: Input should be 'causal' or 'bidirectional'"),
        ("loss.margin='0.1", "option loss.margin: Input should be a valid number"),
        ("seed=1\nstudent.layer=2", "option seed: Input should be a valid integer"),
        ("objective=f2", "option objective: unknown threshold objective 'f2'"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, assignment: str, message: str) -> None:
    done = train("--pairs", "train.csv", "--set", assignment, "--out", tmp_path / "run")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"flipkd: error: the command line: {message}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_wrong_option_in_the_file_names_the_file(inputs: Path, tmp_path: Path) -> None:
    file = inputs / "wrong.toml"
    file.write_text('sed = 1\n[data]\npairs = "train.csv"\n')
    done = train(file, "--out", tmp_path / "run")
    assert done.stderr == f"flipkd: error: {file}: option sed: there is no such option\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ('"4"', "4"),
        ("package:llm", "package:llm"),
        ("precision>=0.9", "precision>=0.9"),
        ("./a b=c", "./a b=c"),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_values_are_toml_or_text(text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from flipkd_sdk.training.config import load as user_options

    seen: dict[str, object] = {}

    def override(content: object, options: dict[str, object]) -> dict[str, object]:
        seen.update(options)
        return {}

    monkeypatch.setattr(user_options, "override", override)
    train("--pairs", "train.csv", "--set", f"a.b={text}", "--out", "run")
    assert seen == {"data.pairs": "train.csv", "a.b": value}
    assert type(seen["a.b"]) is type(value)


@pytest.mark.parametrize(
    "arguments",
    [["--out", "run"], ["--pairs", "train.csv"], ["--pairs", "train.csv", "--out", "run", "--set", "student.layer"]],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    done = train(*arguments)
    assert done.exit_code == 2
    assert "Error: " in done.stderr


def test_a_stopped_run_is_resumed_with_its_own_options(tmp_path: Path) -> None:
    run = tmp_path / "run"
    start = ["--pairs", "train.csv", "--dev", "dev.csv", *models(), *QUICK, "--out", run]
    assert train(*start).exit_code == 0
    result = read_run(run).result
    (run / "result.json").unlink()
    done = train("--out", run, "--resume")
    assert done.exit_code == 0, done.stderr
    assert read_run(run).result.measures == result.measures
    both = train(*start, "--resume", "--overwrite")
    assert both.exit_code == 2
    assert "choose one" in both.stderr
    assert train("--out", tmp_path / "absent", "--resume").exit_code == 1


def test_an_earlier_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    done = train("--pairs", "train.csv", "--out", tmp_path)
    assert done.exit_code == 1
    assert (
        done.stderr
        == f"flipkd: error: {tmp_path}: exists already; pass --overwrite to replace it or choose another path\n"
    )


def test_without_the_training_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("load", "schema"):
        monkeypatch.delitem(sys.modules, f"flipkd_sdk.training.config.{name}")
    monkeypatch.setitem(sys.modules, "pydantic", None)
    done = train("--pairs", "train.csv", "--out", tmp_path / "run")
    assert done.exit_code == 1
    assert done.stderr == (
        "flipkd: error: train needs the Python package 'pydantic'; run: pip install 'flipkd-sdk[train]'\n"
    )


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from flipkd_sdk.cli.main import cli\n"
        "cli.main(['train', '--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'torch', 'transformers', 'pydantic', 'flipkd_sdk.training'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "\n  flipkd train --pairs faq.csv --out runs/faq\n" in done.stdout


def test_nothing_but_our_own_warnings_reaches_stderr(tmp_path: Path) -> None:
    arguments = ["train", "--pairs", "train.csv", "--dev", "dev.csv", *models(), *QUICK]
    script = "from flipkd_sdk.cli.main import run; run()"
    command = [sys.executable, "-c", script, *arguments, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
