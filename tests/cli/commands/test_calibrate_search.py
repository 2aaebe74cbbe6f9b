from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.manifest import read_manifest
from flipkd_sdk.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUBJECTS = ("my card", "a transfer", "the new account", "cash abroad", "our last payment", "this PIN", "that fee")
VERBS = ("reset", "open", "see", "withdraw", "try again", "tell me", "forgot")
FAQ = [(f"How do I {verb} {subject}?", f"{verb} {subject}") for verb in VERBS for subject in SUBJECTS]
QUERIES = [(f"How do I {intent} now?", intent) for _, intent in FAQ]
STRANGERS = [(text, "") for text in ("Top up", "Thank you!", "如何重置我的密码？", "Statement", "Who are you?")]


def write(path: Path, rows: Sequence[tuple[str, str]], columns: tuple[str, str] = ("text", "intent")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture
def matcher(tiny_matcher: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_matcher, tmp_path / "matcher")


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    return write(tmp_path / "queries.csv", [*QUERIES, *STRANGERS])


@pytest.fixture
def faq(tmp_path: Path) -> Path:
    return write(tmp_path / "faq.csv", FAQ)


def calibrate(matcher: Path, queries: Path, candidates: Path, *arguments: str) -> Result:
    given = ["calibrate", matcher, "--search", queries, "--candidates", candidates, *arguments, "--device", "cpu"]
    return CliRunner().invoke(cli, list(map(str, given)))


def test_the_answers_at_the_new_threshold_are_right_as_often_as_asked(matcher: Path, queries: Path, faq: Path) -> None:
    before = read_manifest(matcher)
    done = calibrate(matcher, queries, faq, "--precision", "0.7", "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    with Matcher.load(matcher, device="cpu") as opened:
        search = opened.manifest.calibration.search
        assert search is not None
        assert opened.search_threshold == search.threshold
        intents = dict(FAQ)
        answers = [
            intents[found[0].text] == intent
            for query, intent in [*QUERIES, *STRANGERS]
            if (found := opened.rank(query, intents, score_cutoff=search.threshold))
        ]
    assert np.mean(answers) >= 0.7
    assert (search.precision, search.searches, search.answered) == (0.7, 54, len(answers))
    assert (result["queries"], result["answerable"], result["candidates"]) == (54, 49, 49)
    assert (result["now"]["given"], result["now"]["precision"]) == (len(answers), pytest.approx(np.mean(answers)))
    assert result["before"]["threshold"] == before.calibration.threshold
    assert read_manifest(matcher).calibration.threshold == before.calibration.threshold
    assert read_manifest(matcher.parent / "matcher").metrics == before.metrics


def test_the_old_manifest_is_kept_and_the_same_searches_change_nothing(matcher: Path, queries: Path, faq: Path) -> None:
    old = (matcher / "manifest.json").read_bytes()
    assert "the old one is manifest.1.json" in calibrate(matcher, queries, faq, "--precision", "0.7").stdout
    assert (matcher / "manifest.1.json").read_bytes() == old
    assert "the calibration is the same" in calibrate(matcher, queries, faq, "--precision", "0.7").stdout


def test_pairs_fitted_again_leave_the_answers_of_searches(matcher: Path, queries: Path, faq: Path) -> None:
    calibrate(matcher, queries, faq, "--precision", "0.7")
    texts = [text for text, _ in FAQ]

    def answered() -> list[bool]:
        with Matcher.load(matcher, device="cpu") as opened:
            assert opened.search_threshold is not None
            return [opened.rank(query, texts)[0].score >= opened.search_threshold for query, _ in QUERIES]

    before, earlier = answered(), read_manifest(matcher).calibration
    rows = [(query, text, int(own == other)) for query, own in QUERIES for text, other in FAQ[::7]]
    table = matcher.parent / "pairs.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("text_a", "text_b", "label"), *rows])
    done = CliRunner().invoke(cli, ["calibrate", str(matcher), str(table), "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    after = read_manifest(matcher).calibration
    assert after.search is not None
    assert earlier.search is not None
    assert after.search.threshold != earlier.search.threshold
    assert answered() == before


def test_an_older_directory_becomes_one_of_this_format(matcher: Path, queries: Path, faq: Path) -> None:
    content = json.loads((matcher / "manifest.json").read_text())
    del content["head"], content["familiarity"], content["profile"], content["calibration"]["search"]
    (matcher / "manifest.json").write_text(json.dumps({**content, "format_version": 2}))
    assert read_manifest(matcher).calibration.search is None
    done = calibrate(matcher, queries, faq, "--precision", "0.7")
    assert done.exit_code == 0, done.stderr
    assert read_manifest(matcher).format_version == 3
    assert json.loads((matcher / "manifest.1.json").read_text())["format_version"] == 2


def test_queries_that_all_have_an_answer_are_warned_about(matcher: Path, faq: Path, tmp_path: Path) -> None:
    done = calibrate(matcher, write(tmp_path / "all.csv", QUERIES), faq, "--precision", "0.7")
    assert "every query has a right candidate; add some without one" in done.stderr
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("rows", "precision", "message"),
    [
        (QUERIES[:3], "0.95", "too few searches for a precision of 0.95: 19 with a right best candidate are needed"),
        ([(text, "x") for text, _ in QUERIES], "0.7", "no query has the intent of a candidate; the first one has 'x'"),
        ([*QUERIES, *[(text, "no such intent") for text, _ in FAQ]], "0.95", "no search threshold reaches a precision"),
    ],
)
def test_searches_that_allow_no_fit_change_nothing(
    matcher: Path, faq: Path, tmp_path: Path, rows: list[tuple[str, str]], precision: str, message: str
) -> None:
    before = {path.name: path.read_bytes() for path in matcher.iterdir()}
    done = calibrate(matcher, write(tmp_path / "queries.csv", rows), faq, "--precision", precision)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in matcher.iterdir()} == before


def test_columns_can_be_named_and_a_missing_one_is_reported(matcher: Path, tmp_path: Path) -> None:
    queries = write(tmp_path / "queries.csv", [*QUERIES, *STRANGERS], ("question", "answer"))
    faq = write(tmp_path / "faq.csv", FAQ, ("question", "answer"))
    named = ("--text-column", "question", "--intent-column", "answer", "--precision", "0.7")
    assert calibrate(matcher, queries, faq, *named).exit_code == 0
    assert "queries.csv: no column 'text'" in calibrate(matcher, queries, faq).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--search", "q.csv"],
        ["--candidates", "c.csv"],
        ["p.csv", "--candidates", "c.csv"],
        ["p.csv", "--search", "q.csv", "--candidates", "c.csv"],
        ["--search", "q.csv", "--candidates", "c.csv", "--recall", "0.9"],
        ["--search", "q.csv", "--candidates", "c.csv", "--prior", "0.1"],
        ["--search", "q.csv", "--candidates", "c.csv", "--f1"],
        [],
    ],
)
def test_pairs_and_searches_are_two_uses(matcher: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, ["calibrate", str(matcher), *arguments]).exit_code == 2
