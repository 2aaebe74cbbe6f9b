"""Every command prints its result as strict JSON with --json, and nothing else on standard output."""

from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from local_hub import local_hub
from tiny import add_domain, add_self_test, write_tiny_matcher
from tiny_models import tiny_config

from flipkd_sdk.cli.console import print_json
from flipkd_sdk.cli.main import SUBCOMMANDS, cli
from flipkd_sdk.pairs import Pairs, write_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TEXTS = [
    f"How do I {verb} my {thing}, {i}?" for i in range(12) for verb in ("reset", "lose") for thing in ("card", "PIN")
]
WIDE = [f"--limit=int8.{name}=0.5" for name in ("spearman", "max_cosine_change", "average_precision_change")]
COMMANDS: dict[str, tuple[list[str], str]] = {
    "train": (["--out", "run", "--resume"], "measures"),
    "export": (["run", "--out", "exported", *WIDE], "manifest"),
    "push": (["matcher", "team/faq"], "commit"),
    "pull": (["team/faq", "--out", "pulled"], "variants"),
    "verify": (["matcher"], "checks"),
    "score": (["matcher", "pairs.csv", "--out", "scored.csv"], "matches"),
    "rank": (["matcher", "texts.csv", "texts.csv", "--out", "ranked.csv"], "queries"),
    "link": (["matcher", "texts.csv", "others.csv", "--out", "linked.csv"], "matches"),
    "dedupe": (["matcher", "texts.csv", "--out", "groups.csv"], "thresholds"),
    "label": (["texts.csv", "--matcher", "matcher", "--out", "labels.csv"], "labels"),
    "serve": (["matcher", "--port", "0"], "address"),
    "evaluate": (["matcher", "pairs.csv", "--resamples", "5"], "average_precision"),
    "check": (["matcher", "texts.csv", "--language", "en"], "kinds"),
    "drift": (["matcher", "pairs.csv"], "measures"),
    "calibrate": (["matcher", "pairs.csv", "--out", "calibrated"], "written"),
    "inspect": (["matcher"], "manifest"),
    "doctor": (["matcher"], "level"),
}
"""Arguments, and a key of the result."""


def write(path: Path, column: str, values: Iterable[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([(column,), *((value,) for value in values)])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matcher, tables and a finished run."""
    path = tmp_path_factory.mktemp("json")
    matcher = write_tiny_matcher(path / "matcher", precisions=("fp32", "int8"), max_length=48)
    add_self_test(matcher)
    # Equal texts match, so that a calibration is possible.
    pairs = Pairs((*TEXTS, *TEXTS), (*TEXTS, *TEXTS[1:], TEXTS[0]), np.repeat([1, 0], len(TEXTS)).astype(np.int8))
    add_domain(matcher, TEXTS[::2], pairs)
    (matcher / "README.md").write_text("# Text matcher\n")
    write_pairs(pairs, path / "pairs.csv")
    write(path / "texts.csv", "text", TEXTS)
    write(path / "others.csv", "text", TEXTS[::3])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIPKD_CACHE", str(path / "cache"))
        config = tiny_config(path / "inputs")
        options = ["--set", "labels.epochs=0", "--set", "alignment.epochs=1", "--set", "alignment.fewest_texts=0"]
        options += [
            "--set",
            "student.rank=4",
            "--set",
            "teacher.epochs=0",
            "--set",
            "head.enabled=false",
            "--layer",
            "2",
        ]
        models = ["--teacher", config.teacher.source, "--student", config.student.source]
        tables = ["--pairs", str(config.data.pairs), "--dev", str(config.data.dev)]
        done = CliRunner().invoke(cli, ["train", *tables, *models, *options, "--out", str(path / "run")])
    assert done.exit_code == 0, done.stderr
    return path


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_command_is_tried() -> None:
    assert set(COMMANDS) == set(SUBCOMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("push", "pull")])
def test_a_command_prints_strict_json(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("FLIPKD_CACHE", str(place / "cache"))
    if name in ("serve", "label"):  # Their servers end at once.
        pytest.importorskip("uvicorn", reason="the server needs: pip install 'flipkd-sdk[serve]'")
        monkeypatch.setattr(importlib.import_module("flipkd_sdk.runtimes.http.run"), "run", lambda *_, **__: None)
    arguments, key = COMMANDS[name]
    done = CliRunner().invoke(cli, [name, *arguments, "--json"])
    assert done.exit_code == 0, done.output
    result = strict(done.stdout)
    assert key in (result[0] if isinstance(result, list) else result)


def test_push_and_pull_print_strict_json(place: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the hub needs: pip install 'flipkd-sdk[hub]'")
    with local_hub() as hub:
        # huggingface_hub reads its environment once, so the commands run in processes of their own.
        changes = {"HF_ENDPOINT": hub.url, "HF_HOME": str(place / "home"), "HF_TOKEN": "hf_test"}
        environment = {**os.environ, **changes, "HF_HUB_DISABLE_XET": "1"}
        for name in ("push", "pull"):
            arguments, key = COMMANDS[name]
            command = [sys.executable, "-m", "flipkd_sdk", name, *arguments, "--json"]
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, env=environment)
            assert done.returncode == 0, done.stderr
            assert key in strict(done.stdout)


@pytest.mark.parametrize("name", ["score", "rank"])
def test_rows_and_json_do_not_share_standard_output(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    arguments = COMMANDS[name][0]
    done = CliRunner().invoke(cli, [name, *arguments[: arguments.index("--out")], "--json"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--json prints to standard output; name a file with --out" in done.stderr


def test_a_folder_of_tables_gives_a_list_and_a_finished_output_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "in" / name).write_bytes((place / "pairs.csv").read_bytes())
    arguments = ["score", str(place / "matcher"), str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]
    first, second = (strict(CliRunner().invoke(cli, [*arguments, "--resume"]).stdout) for _ in range(2))
    assert [one["rows"] for one in first] == [96, 96]
    assert [one["output"] for one in first] == [str(tmp_path / "out" / name) for name in ("a.csv", "b.csv")]
    assert second == [{"output": one["output"], "complete_before": True} for one in first]


def test_numbers_that_json_lacks_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), float("inf"), 1.5], "b": (float("-inf"),), "é": {"c": float("nan")}})
    assert strict(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": [None], "é": {"c": None}}
