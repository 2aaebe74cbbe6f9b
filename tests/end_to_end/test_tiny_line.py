"""The whole line on a tiny random Llama, through the command line: pairs → run → matcher directory → scored CSV."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from tiny_models import tiny_config

from flipkd_sdk.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

# A toy student's cosines lie so close together that any rounding changes their order.
WIDE = [
    "--limit=int8.spearman=0.5",
    "--limit=int8.max_cosine_change=0.5",
    "--limit=int8.average_precision_change=0.5",
]
SCORING = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "peft", "optimum", "onnx", "pydantic", "matplotlib"}:
            raise ImportError(f"{name} is not for the runtime")

sys.meta_path.insert(0, Forbidden())
from flipkd_sdk import Matcher

with Matcher.load(sys.argv[1]) as matcher:
    print(matcher.score("how do I reset my card", "I want to reset my card"))
"""


def flipkd(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the data, the run and the matcher, each made by a command."""
    directory = tmp_path_factory.mktemp("line")
    config = tiny_config(directory)
    toml = [f"[data]\npairs = '{config.data.pairs}'\ndev = '{config.data.dev}'\ntest = '{config.data.test}'\n"]
    toml += [f"[teacher]\nsource = '{config.teacher.source}'\n"]
    toml += [f"[student]\nsource = '{config.student.source}'\nlayer = 2\nrank = 4\nsite_rank = 16\nmax_length = 48\n"]
    (directory / "train.toml").write_text("".join(toml), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIPKD_CACHE", str(directory / "cache"))
        trained = flipkd("train", directory / "train.toml", "--out", directory / "run")
        assert trained.exit_code == 0, trained.stderr
        exported = flipkd("export", directory / "run", "--out", directory / "matcher", *WIDE)
        assert exported.exit_code == 0, exported.stderr
        yield directory


def test_a_scored_csv_keeps_its_rows_and_gains_two_columns(line: Path) -> None:
    done = flipkd("score", line / "matcher", line / "test.csv", "--out", line / "scored.csv", "--overwrite")
    assert done.exit_code == 0, done.stderr
    with (line / "test.csv").open(newline="") as before, (line / "scored.csv").open(newline="") as after:
        given, scored = list(csv.DictReader(before)), list(csv.DictReader(after))
    assert [{name: row[name] for name in given[0]} for row in scored] == given
    assert all(0.0 <= float(row["score"]) <= 1.0 and row["match"] in "01" for row in scored)


def test_inspect_and_evaluate_read_what_export_wrote(line: Path) -> None:
    inspected = json.loads(flipkd("inspect", line / "matcher", "--json").stdout)
    assert inspected
    evaluated = flipkd("evaluate", line / "matcher", line / "test.csv")
    assert evaluated.exit_code == 0, evaluated.stderr
    manifest = json.loads((line / "matcher" / "manifest.json").read_text(encoding="utf-8"))
    assert f"{manifest['metrics']['test/int8']['average_precision']:.4f}" in evaluated.stdout


def test_the_matcher_needs_nothing_that_trained_it(line: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCORING, str(line / "matcher")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0.0 <= float(done.stdout) <= 1.0


@pytest.mark.parametrize("damage", ["changed", "missing", "foreign"])
def test_a_damaged_matcher_is_one_line_and_exit_code_1(line: Path, tmp_path: Path, damage: str) -> None:
    matcher = shutil.copytree(line / "matcher", tmp_path / "matcher")
    model = matcher / "model_int8.onnx"
    if damage == "changed":
        content = bytearray(model.read_bytes())
        content[len(content) // 2] ^= 1
        model.write_bytes(content)
    elif damage == "missing":
        model.unlink()
    else:
        (matcher / "manifest.json").write_text('{"name": "of something else"}', encoding="utf-8")
    done = flipkd("score", matcher, line / "test.csv", "--out", tmp_path / "scored.csv")
    assert done.exit_code == 1
    assert done.stderr.startswith("flipkd: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert str(matcher) in done.stderr
    assert not (tmp_path / "scored.csv").exists()
