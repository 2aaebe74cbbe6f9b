from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.manifest import read_manifest
from flipkd_sdk.cli.main import cli
from flipkd_sdk.evaluation.calibration import fit
from flipkd_sdk.evaluation.metrics import at_threshold
from flipkd_sdk.pairs import Pairs, write_pairs

if TYPE_CHECKING:
    from pathlib import Path

SUBJECTS = ("my card", "a transfer", "the new account", "cash abroad", "our last payment", "this PIN", "that fee")
VERBS = ("reset", "open", "see", "withdraw", "try again", "tell me", "forgot")
QUESTIONS = [f"How do I {verb} {subject}?" for verb in VERBS for subject in SUBJECTS]
TEXTS = ("Top up", "Is there a fee?", "My phone was stolen", "Who are you?", "Close it", "Statement", "Thank you!")
PAIRS = Pairs(
    (*QUESTIONS, *QUESTIONS),
    (*(question.replace("How do I", "where can I") for question in QUESTIONS), *reversed(TEXTS * 7)),
    np.array([1] * 49 + [0] * 49, np.int8),
)


@pytest.fixture
def matcher(tiny_matcher: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_matcher, tmp_path / "matcher")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_pairs(PAIRS, tmp_path / "pairs.csv")
    return tmp_path / "pairs.csv"


def calibrate(*arguments: str | float | Path) -> Result:
    return CliRunner().invoke(cli, ["calibrate", *map(str, arguments), "--device", "cpu"])


def test_the_fit_is_that_of_the_pairs_cosines(matcher: Path, pairs: Path) -> None:
    with Matcher.load(matcher, device="cpu") as opened:
        a, b = opened.encode(PAIRS.a), opened.encode(PAIRS.b)
    expected = fit((a.astype(np.float64) * b).sum(axis=1).astype(np.float32), PAIRS.label)
    done = calibrate(matcher, pairs)
    assert done.exit_code == 0, done.stderr
    found = read_manifest(matcher).calibration
    assert (found.slope, found.intercept, found.threshold) == pytest.approx(
        (expected.slope, expected.intercept, expected.threshold), rel=1e-5
    )
    assert (found.size, found.objective) == (98, "f1")
    assert "matcher: manifest.json changed; the old one is manifest.1.json" in done.stdout


def test_the_same_pairs_give_the_same_manifest_bytes(matcher: Path, pairs: Path, tmp_path: Path) -> None:
    other = shutil.copytree(matcher, tmp_path / "other")
    for directory in (matcher, other, matcher):
        done = calibrate(directory, pairs, "--recall", "0.9", "--prior", "0.2")
        assert done.exit_code == 0, done.stderr
    assert (matcher / "manifest.json").read_bytes() == (other / "manifest.json").read_bytes()
    assert "the calibration is the same" in done.stdout
    assert not (matcher / "manifest.2.json").exists()


@pytest.mark.parametrize(("measure", "least"), [("precision", 0.6), ("recall", 0.9)])
def test_the_goal_asked_for_is_reached(matcher: Path, pairs: Path, measure: str, least: float) -> None:
    done = calibrate(matcher, pairs, f"--{measure}", least)
    assert done.exit_code == 0, done.stderr
    assert read_manifest(matcher).calibration.objective == f"{measure}>={least}"
    with Matcher.load(matcher, device="cpu") as opened:
        score = opened.score_pairs(zip(PAIRS.a, PAIRS.b, strict=True))
        assert at_threshold(score, PAIRS.label, opened.threshold)[measure] >= least


def test_a_prior_lowers_every_probability_and_keeps_their_order(matcher: Path, pairs: Path, tmp_path: Path) -> None:
    calibrate(matcher, pairs)
    done = calibrate(matcher, pairs, "--prior", "0.05", "--out", tmp_path / "search")
    assert done.exit_code == 0, done.stderr
    texts = list(zip(PAIRS.a, PAIRS.b, strict=True))
    with Matcher.load(matcher, device="cpu") as plain, Matcher.load(tmp_path / "search", device="cpu") as rare:
        before, after = plain.score_pairs(texts), rare.score_pairs(texts)
        assert rare.manifest.calibration.objective == "f1 at prior 0.05"
    assert (after < before).all()
    order = np.argsort(before, kind="stable")
    assert (np.diff(after[order]) >= 0).all()


def test_json_reports_both_calibrations_and_their_measures(matcher: Path, pairs: Path) -> None:
    old = read_manifest(matcher).calibration
    result = json.loads(calibrate(matcher, pairs, "--json").stdout)
    new = read_manifest(matcher).calibration
    assert (result["pairs"], result["matches"], result["blank"], result["share_of_matches"]) == (98, 49, 0, 0.5)
    assert (result["before"]["calibration"]["slope"], result["now"]["calibration"]["slope"]) == (old.slope, new.slope)
    with Matcher.load(matcher, device="cpu") as opened:
        score = opened.score_pairs(zip(PAIRS.a, PAIRS.b, strict=True))
    expected = at_threshold(score, PAIRS.label, new.threshold)
    assert result["now"]["measures"] == pytest.approx({m: expected[m] for m in ("precision", "recall", "f1")})
    assert result["earlier_manifest"] == "manifest.1.json"


def test_pairs_with_a_blank_text_are_left_out_and_counted(matcher: Path, tmp_path: Path) -> None:
    blank = Pairs((*PAIRS.a, "", "a card"), (*PAIRS.b, "a card", " "), np.append(PAIRS.label, [1, 1]).astype(np.int8))
    write_pairs(blank, tmp_path / "blank.csv")
    done = calibrate(matcher, tmp_path / "blank.csv")
    assert done.stdout.startswith("98 pairs, 49 of them matches; 2 more with a blank text left out; ")
    assert read_manifest(matcher).calibration.size == 98


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        ([], "holds where 50% of the pairs match"),
        (["--prior", "0.001"], "49 non-matches are too few to measure false matches where 0.001 of all pairs match"),
        ([], "49 matches and 49 non-matches make a rough fit"),
    ],
)
def test_a_prior_or_a_number_that_does_not_fit_is_warned_about(
    matcher: Path, pairs: Path, arguments: list[str], warning: str
) -> None:
    done = calibrate(matcher, pairs, *arguments)
    assert done.exit_code == 0
    assert warning in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "0.99"], "99 matches are needed, found 49"),
        (["--precision", "0.95", "--prior", "0.01"], "1,881 non-matches are needed, found 49"),
        (["--recall", "0.99"], "100 matches are needed, found 49"),
    ],
)
def test_too_few_pairs_are_refused_with_the_number_needed(
    matcher: Path, pairs: Path, arguments: list[str], message: str
) -> None:
    before = {path.name: path.read_bytes() for path in matcher.iterdir()}
    done = calibrate(matcher, pairs, *arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in matcher.iterdir()} == before


def test_a_precision_out_of_reach_is_reported_with_the_best_one(matcher: Path, tmp_path: Path) -> None:
    equal = np.append(PAIRS.label, [0] * 20).astype(np.int8)
    write_pairs(Pairs((*PAIRS.a, *QUESTIONS[:20]), (*PAIRS.b, *QUESTIONS[:20]), equal), tmp_path / "pairs.csv")
    done = calibrate(matcher, tmp_path / "pairs.csv", "--precision", "0.97")
    assert done.exit_code == 1
    assert "objective precision>=0.97: the best precision on these pairs is 0." in done.stderr


def test_pairs_of_one_label_or_with_swapped_labels_are_refused(matcher: Path, tmp_path: Path) -> None:
    before = (matcher / "manifest.json").read_bytes()
    write_pairs(Pairs(PAIRS.a, PAIRS.b, 1 - PAIRS.label), tmp_path / "swapped.csv")
    (tmp_path / "one.csv").write_text("text_a,text_b,label\na,b,1\nc,d,1\n")
    for name, message in (("swapped", "does not rise with the label"), ("one", "label")):
        done = calibrate(matcher, tmp_path / f"{name}.csv")
        assert done.exit_code == 1
        assert message in done.stderr
    assert (matcher / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--precision", "0.9", "--recall", "0.9"],
        ["--precision", "0.9", "--f1"],
        ["--precision", "1"],
        ["--precision", "nan"],
        ["--recall", "0"],
        ["--prior", "0"],
        ["--prior", "1"],
        ["--prior", "nan"],
    ],
)
def test_options_out_of_range_are_wrong_usage(matcher: Path, pairs: Path, arguments: list[str]) -> None:
    assert calibrate(matcher, pairs, *arguments).exit_code == 2


def test_an_existing_output_is_refused_before_the_pairs_are_read(matcher: Path, tmp_path: Path) -> None:
    done = calibrate(matcher, tmp_path / "absent.csv", "--out", matcher)
    assert done.exit_code == 1
    assert "exists already; choose another path" in done.stderr
