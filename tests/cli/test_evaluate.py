from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli
from flipkd_sdk.metrics import summary

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    ("reset my password", "reset my password", 1),
    ("reset my password", "open an account", 0),
    ("", "a card was lost", 0),
    ("a card was lost", "a card", 1),
    ("a", "b", 1),
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("q,f,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in ROWS), encoding="utf-8")
    return path


COLUMNS = ["--a-column", "q", "--b-column", "2", "--label-column", "y"]


def test_json_holds_the_measures_of_the_matchers_own_scores(tiny_matcher: Path, pairs: Path) -> None:
    done = CliRunner().invoke(cli, ["evaluate", str(tiny_matcher), str(pairs), *COLUMNS, "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    with Matcher.load(tiny_matcher, device="cpu") as matcher:
        probability = matcher.score_pairs((a, b) for a, b, _ in ROWS)
        expected = summary(probability, np.array([y for *_, y in ROWS]), matcher.threshold)
        assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-6)
        assert result["threshold"] == matcher.threshold
        assert result["variant"] == matcher.precision
    assert (result["pairs"], result["positives"], result["device"]) == (5, 3, "cpu")


def test_the_table_shows_the_same_figures(tiny_matcher: Path, pairs: Path) -> None:
    arguments = ["evaluate", str(tiny_matcher), str(pairs), *COLUMNS, "--device", "cpu", "--resamples", "50"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("5 pairs, 3 of them matches; ")
    figures = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    for name in ("accuracy", "precision", "recall", "f1", "average_precision", "roc_auc", "calibration_error"):
        line = next(line for line in done.stdout.splitlines() if line.strip().startswith(name.replace("_", " ")))
        assert f"{figures[name]:.4f}" in line.split()


def test_bad_pairs_are_refused_before_the_matcher_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("text_a,text_b,label\na,b,1\nc,d,maybe\n", encoding="utf-8")
    done = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "absent"), str(path)])
    assert done.exit_code == 1
    assert done.stderr == f"flipkd: error: {path}:3: column 'label': label \"maybe\"; expected 0 or 1\n"
