from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from tiny import TEXTS, write_tiny_matcher

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli
from flipkd_sdk.evaluation.bootstrap import mcnemar
from flipkd_sdk.evaluation.metrics import summary

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
    for name in ("accuracy", "precision", "recall", "f1", "average_precision", "roc_auc", "spearman"):
        line = next(line for line in done.stdout.splitlines() if line.strip().startswith(name.replace("_", " ")))
        assert f"{figures[name]:.4f}" in line.split()


def test_bad_pairs_are_refused_before_the_matcher_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("text_a,text_b,label\na,b,1\nc,d,maybe\n", encoding="utf-8")
    done = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "absent"), str(path)])
    assert done.exit_code == 1
    assert (
        done.stderr
        == f"flipkd: error: {path}:3: column 'label': label \"maybe\"; expected 0 or 1, no or yes, false or true\n"
    )


@pytest.fixture
def other_matcher(tmp_path: Path) -> Path:
    return write_tiny_matcher(tmp_path / "other", seed=5)


def test_a_comparison_names_the_pairs_that_change_sides(
    tiny_matcher: Path, other_matcher: Path, tmp_path: Path
) -> None:
    texts = [text for text in TEXTS if text]
    pairs = [(a, b, int(i % 3 == 0)) for i, (a, b) in enumerate((a, b) for a in texts for b in texts[::2])]
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "\n".join(json.dumps({"text_a": a, "text_b": b, "label": y}) for a, b, y in pairs), encoding="utf-8"
    )
    arguments = ["evaluate", str(tiny_matcher), str(path), "--compare", str(other_matcher), "--resamples", "50"]
    result = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)["comparison"]
    label = np.array([y for *_, y in pairs])
    decisions = []
    for directory in (tiny_matcher, other_matcher):
        with Matcher.load(directory) as matcher:
            decisions.append(matcher.score_pairs((a, b) for a, b, _ in pairs) >= matcher.threshold)
    moved = decisions[0] != decisions[1]
    assert {changed["pair"] - 1 for changed in result["changed"]} == set(np.flatnonzero(moved).tolist())
    assert 0 < len(result["changed"]) == result["gained"] + result["lost"]
    for changed in result["changed"]:
        assert (changed["a"], changed["b"], changed["label"]) == pairs[changed["pair"] - 1]
        assert changed["gained"] is bool(decisions[1][changed["pair"] - 1] == changed["label"])
    assert result["gained"] == int(((decisions[1] == label) & moved).sum())
    assert result["p_value"] == mcnemar(result["lost"], result["gained"])
    accuracy = [float(np.mean(decision == label)) for decision in decisions]
    assert result["differences"]["accuracy"] == pytest.approx(accuracy[1] - accuracy[0])
    low, high = result["intervals"]["accuracy"]
    assert low <= result["differences"]["accuracy"] <= high
    shown = CliRunner().invoke(cli, arguments).stdout
    assert f"{len(result['changed'])} pairs change sides: {result['gained']} gained" in shown


def test_a_matcher_compared_with_itself_changes_nothing(tiny_matcher: Path, pairs: Path) -> None:
    done = CliRunner().invoke(
        cli, ["evaluate", str(tiny_matcher), str(pairs), *COLUMNS, "--compare", str(tiny_matcher), "--resamples", "20"]
    )
    assert "No pair changes sides." in done.stdout
    assert "+0.0000  +0.0000 to +0.0000" in done.stdout


def test_no_resamples_no_intervals(tiny_matcher: Path, pairs: Path) -> None:
    done = CliRunner().invoke(cli, ["evaluate", str(tiny_matcher), str(pairs), *COLUMNS, "--resamples", "0"])
    assert (done.exit_code, " to " in done.stdout) == (0, False)


def test_the_report_is_one_page_with_all_sections(
    tiny_matcher: Path, other_matcher: Path, pairs: Path, tmp_path: Path
) -> None:
    report = tmp_path / "<report>.html"
    named = pairs.rename(tmp_path / "<pairs>&.csv")
    arguments = ["evaluate", str(tiny_matcher), str(named), *COLUMNS, "--report", str(report), "--resamples", "20"]
    done = CliRunner().invoke(cli, [*arguments, "--compare", str(other_matcher)])
    assert done.exit_code == 0, done.output
    html = report.read_text(encoding="utf-8")
    assert "&lt;pairs&gt;&amp;.csv: 5 pairs, 3 of them matches" in html and "<pairs>" not in html
    for word in ("average precision", "calibration error", "McNemar", "Missed matches", "--a-column", "Precision and"):
        assert word in html
    assert "http" not in html.replace("http-equiv", "")
    again = CliRunner().invoke(cli, arguments)
    assert "exists already; pass --overwrite" in again.stderr


def test_pairs_with_kinds_add_pass_rates(tiny_matcher: Path, tmp_path: Path) -> None:
    path, report = tmp_path / "kinds.csv", tmp_path / "report.html"
    kinds = ("same", "same", "", "part", "part")
    lines = [f"{a},{b},{y},{kind}\n" for (a, b, y), kind in zip(ROWS, kinds, strict=True)]
    path.write_text("text_a,text_b,label,kind\n" + "".join(lines), encoding="utf-8")
    arguments = ["evaluate", str(tiny_matcher), str(path), "--device", "cpu", "--resamples", "0", "--threshold", "0.9"]
    result = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    with Matcher.load(tiny_matcher, device="cpu") as matcher:
        right = (matcher.score_pairs((a, b) for a, b, _ in ROWS) >= 0.9) == np.array([y for *_, y in ROWS], np.bool_)
    passed = {(kind["kind"], kind["label"]): kind["passed"] for kind in result["behaviour"]["kinds"]}
    assert passed == {
        ("same", 1): right[0],
        ("same", 0): right[1],
        ("no kind", 0): right[2],
        ("part", 1): right[3] + right[4],
    }
    shown = CliRunner().invoke(cli, [*arguments, "--report", str(report)])
    assert shown.exit_code == 0, shown.stderr
    assert any(line.split()[:2] == ["part", "match"] for line in shown.stdout.splitlines())
    assert "Behaviour by kind" in report.read_text(encoding="utf-8")


def test_pairs_without_kinds_have_no_pass_rates_unless_a_column_is_named(tiny_matcher: Path, pairs: Path) -> None:
    arguments = ["evaluate", str(tiny_matcher), str(pairs), *COLUMNS, "--device", "cpu", "--resamples", "0"]
    assert "behaviour" not in json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    done = CliRunner().invoke(cli, [*arguments, "--kind-column", "kind"])
    assert done.exit_code == 1
    assert "no column 'kind'" in done.stderr


def test_the_threshold_of_the_command_decides(tiny_matcher: Path, pairs: Path) -> None:
    arguments = ["evaluate", str(tiny_matcher), str(pairs), *COLUMNS, "--device", "cpu", "--resamples", "0", "--json"]
    result = json.loads(
        CliRunner().invoke(cli, [*arguments, "--threshold", "0", "--compare", str(tiny_matcher)]).stdout
    )
    assert (result["threshold"], result["recall"], result["comparison"]["threshold"]) == (0.0, 1.0, 0.0)


def test_a_report_explains_its_wrong_pairs_on_request(tiny_matcher: Path, pairs: Path, tmp_path: Path) -> None:
    command = ["evaluate", str(tiny_matcher), str(pairs), *COLUMNS, "--resamples", "0", "--device", "cpu"]
    report = tmp_path / "report.html"
    done = CliRunner().invoke(cli, [*command, "--explain"])
    assert done.exit_code == 2
    assert "--explain is for a report" in done.stderr
    assert CliRunner().invoke(cli, [*command, "--report", str(report)]).exit_code == 0
    assert 'class="explanation"' not in report.read_text(encoding="utf-8")
    done = CliRunner().invoke(cli, [*command, "--report", str(report), "--overwrite", "--explain"])
    assert done.exit_code == 0, done.stderr
    html = report.read_text(encoding="utf-8")
    assert 'class="explanation"' in html
    assert "shared with the background" in html
