"""The whole line on toy models, through the command line alone: train, export, inspect, verify, score, evaluate."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from tiny_models import tiny_config

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A toy student's cosines lie so close together that any rounding changes their order.
WIDE = [
    "--limit=int8.spearman=0.5",
    "--limit=int8.max_cosine_change=0.5",
    "--limit=int8.average_precision_change=0.5",
]

FORBIDDEN = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        heavy = {"torch", "transformers", "peft", "accelerate", "optimum", "onnx", "onnx_ir", "pydantic", "matplotlib"}
        if name.partition(".")[0] in heavy:
            raise ImportError(f"{name} is not for the runtime")

sys.meta_path.insert(0, Forbidden())
"""


def flipkd(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def succeed(*arguments: str | Path) -> str:
    done = flipkd(*arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the data, the run and the matcher, each made by a command."""
    directory = tmp_path_factory.mktemp("line")
    config = tiny_config(directory)
    toml = [f"[data]\npairs = '{config.data.pairs}'\ndev = '{config.data.dev}'\ntest = '{config.data.test}'\n"]
    toml += [f"[teacher]\nsource = '{config.teacher.source}'\nepochs = 0\n"]
    toml += [f"[student]\nsource = '{config.student.source}'\nlayer = 2\nrank = 4\nsite_rank = 16\nmax_length = 48\n"]
    toml += ["[alignment]\nfewest_texts = 0\n"]
    (directory / "train.toml").write_text("".join(toml), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIPKD_CACHE", str(directory / "cache"))
        trained = succeed("train", directory / "train.toml", "--out", directory / "run")
        assert f"flipkd export {directory / 'run'} --out DIR" in trained
        exported = succeed("export", directory / "run", "--out", directory / "matcher", *WIDE)
        assert f"Matcher: {directory / 'matcher'}" in exported
        yield directory


def test_inspect_verifies_the_matcher(line: Path) -> None:
    assert "6 verified" in succeed("inspect", line / "matcher")
    content = json.loads(succeed("inspect", line / "matcher", "--json"))["manifest"]
    assert content["encoder"]["layer"] == 2
    assert list(content["variants"]) == ["int8"]
    result = json.loads((line / "run" / "result.json").read_text(encoding="utf-8"))
    assert content["student"] == result["student"]
    # Export adds the search threshold to what the training fitted.
    assert content["calibration"] | {"search": None} == result["calibration"]


def test_the_matcher_computes_as_exported(line: Path) -> None:
    table = succeed("verify", line / "matcher", "--pairs", line / "test.csv", "--split", "test")
    rows = [row.split() for row in table.splitlines()]
    assert ["int8", "self-test", "distance"] in [row[:3] for row in rows]
    assert ["int8", "pairs:", "average", "precision"] in [row[:4] for row in rows]


def test_a_table_is_scored(line: Path) -> None:
    succeed("score", line / "matcher", line / "test.csv", "--out", line / "scored.csv")
    with (line / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (line / "scored.csv").open(encoding="utf-8", newline="") as file:
        scored = list(csv.DictReader(file))
    assert [{name: row[name] for name in rows[0]} for row in scored] == rows
    with Matcher.load(line / "matcher") as matcher:
        for row in scored:
            assert float(row["score"]) == pytest.approx(matcher.score(row["text_a"], row["text_b"]), abs=1e-5)
            assert int(row["match"]) == (float(row["score"]) >= matcher.threshold)


def test_evaluate_finds_what_export_measured(line: Path) -> None:
    measured = json.loads(succeed("evaluate", line / "matcher", line / "test.csv", "--json"))
    recorded = json.loads((line / "matcher" / "manifest.json").read_text(encoding="utf-8"))["metrics"]
    recorded = recorded["test/int8 with head"]
    assert {name: measured[name] for name in recorded} == pytest.approx(recorded, abs=1e-5)
    assert measured["average_precision"] > 0.7, "the student has learned something"


def test_a_matcher_runs_without_the_packages_it_was_made_with(line: Path) -> None:
    a, b = "how do I reset my card online", ""
    script = f"{FORBIDDEN}\nfrom flipkd_sdk import Matcher\nprint(repr(Matcher.load(sys.argv[1]).score(*sys.argv[2:])))"
    command = [sys.executable, "-P", "-c", script, str(line / "matcher"), a, b]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    with Matcher.load(line / "matcher") as matcher:
        assert float(done.stdout) == pytest.approx(matcher.score(a, b), abs=1e-6)


def test_the_command_line_scores_without_them_too(line: Path, tmp_path: Path) -> None:
    script = f"{FORBIDDEN}\nfrom flipkd_sdk.cli.main import run\nrun()"
    out = tmp_path / "scored.csv"
    command = [
        sys.executable,
        "-P",
        "-c",
        script,
        "score",
        str(line / "matcher"),
        str(line / "dev.csv"),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(out.read_text(encoding="utf-8").splitlines()) == 1 + 24
    command[4:] = ["train", "--pairs", str(line / "train.csv"), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "is not for the runtime" in done.stderr, "else the hook forbids nothing"


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def swap(file: Path) -> None:
    file.write_text("another file altogether", encoding="utf-8")


def link(file: Path) -> None:
    shutil.move(file, file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


@pytest.mark.parametrize("damage", [change, remove, cut, swap, link])
@pytest.mark.parametrize("name", ["model_int8.onnx", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("command", ["inspect", "score", "verify"])
def test_a_damaged_matcher_is_one_line(
    line: Path, tmp_path: Path, damage: Callable[[Path], None], name: str, command: str
) -> None:
    matcher = shutil.copytree(line / "matcher", tmp_path / "matcher")
    if damage is change and name == "manifest.json":
        text = (matcher / name).read_text(encoding="utf-8")
        (matcher / name).write_text(text.replace('"threshold"', '"treshold"'), encoding="utf-8")
    else:
        damage(matcher / name)
    out = tmp_path / "scored.csv"
    done = flipkd(command, matcher, *([line / "test.csv", "--out", out] if command == "score" else []))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"flipkd: error: {matcher / name}: ")
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_a_second_export_does_not_replace_the_first_unasked(line: Path) -> None:
    done = flipkd("export", line / "run", "--out", line / "matcher")
    assert done.exit_code == 1
    assert (
        done.stderr
        == f"flipkd: error: {line / 'matcher'}: exists already; pass --overwrite to replace it or choose another path\n"
    )
