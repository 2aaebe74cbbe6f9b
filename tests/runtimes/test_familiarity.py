from __future__ import annotations

import csv
import io
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from tiny import TEXTS, add_sketch

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.familiarity import FILE
from flipkd_sdk.cli.main import cli
from flipkd_sdk.errors import ConfigError, MatcherDirectoryError

if TYPE_CHECKING:
    from pathlib import Path

QUESTIONS = [f"How do I {verb} my {thing}?" for verb in ("reset", "lose", "find") for thing in ("card", "PIN", "fee")]
HELD_OUT = [f"Where can I see the {thing}?" for thing in ("card", "PIN", "fee", "transfer", "account")]


@pytest.fixture
def directory(tiny_matcher: Path, tmp_path: Path) -> Path:
    path = shutil.copytree(tiny_matcher, tmp_path / "matcher")
    add_sketch(path, QUESTIONS, HELD_OUT)
    return path


def test_familiarity_is_the_quantile_of_the_similarity(directory: Path) -> None:
    with Matcher.load(directory, device="cpu", head=False) as matcher:
        similarity, familiarity = matcher.training_similarity(HELD_OUT), matcher.familiarity(HELD_OUT)
        assert (familiarity.dtype, familiarity.shape) == (np.float32, (len(HELD_OUT),))
        assert (familiarity.min(), familiarity.max()) == (0, 1)
        assert np.array_equal(np.argsort(similarity), np.argsort(familiarity))
        assert (matcher.familiarity(QUESTIONS) >= np.median(familiarity)).all()
        assert matcher.familiarity([]).shape == (0,)
        alone = [matcher.familiarity([text])[0] for text in HELD_OUT]
    assert alone == pytest.approx(familiarity.tolist(), abs=1e-4)


def test_a_directory_without_a_sketch_says_how_to_get_one(tiny_matcher: Path) -> None:
    with (
        Matcher.load(tiny_matcher, device="cpu") as matcher,
        pytest.raises(ConfigError, match="no familiarity sketch; export its run again"),
    ):
        matcher.familiarity(TEXTS)


@pytest.mark.parametrize("command", ["score", "rank"])
def test_a_command_refuses_a_directory_without_a_sketch_before_it_writes(
    command: str, tiny_matcher: Path, tmp_path: Path
) -> None:
    (tmp_path / "table.csv").write_text("text,text_a,text_b\nTop up,Top up,A card\n")
    tables = [str(tmp_path / "table.csv")] * (2 if command == "rank" else 1)
    done = CliRunner().invoke(cli, [command, str(tiny_matcher), *tables, "--familiarity"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no familiarity sketch; export its run again" in done.stderr


def test_a_changed_or_missing_sketch_is_refused_and_scores_do_not_need_it(directory: Path) -> None:
    content = bytearray((directory / FILE).read_bytes())
    content[-1] ^= 1
    for change, message in ((content, "SHA-256 differs"), (content[:-1], "bytes instead of"), (None, "missing")):
        (directory / FILE).unlink() if change is None else (directory / FILE).write_bytes(change)
        with Matcher.load(directory, device="cpu") as matcher:
            assert 0 <= matcher.score("a card", "the card") <= 1
            with pytest.raises(MatcherDirectoryError, match=message):
                matcher.familiarity(TEXTS)


def test_score_adds_the_familiarity_of_the_less_familiar_text(directory: Path, tmp_path: Path) -> None:
    pairs = [(HELD_OUT[0], QUESTIONS[1]), ("Top up", QUESTIONS[2]), ("", "Thanks")]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text_a", "text_b"), *pairs])
    with Matcher.load(directory, device="cpu") as matcher:
        expected = [f"{matcher.familiarity(pair).min():.6f}" for pair in pairs]
    done = CliRunner().invoke(cli, ["score", str(directory), str(tmp_path / "pairs.csv"), "--familiarity"])
    assert done.exit_code == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["familiarity"] for row in rows] == expected
    matches = CliRunner().invoke(
        cli, ["score", str(directory), str(tmp_path / "pairs.csv"), "--familiarity", "--only-matches", "--no-head"]
    )
    kept = list(csv.DictReader(io.StringIO(matches.stdout)))
    assert kept == [row for row in rows if row["match"] == "1"]


def test_rank_adds_the_familiarity_of_the_query(directory: Path, tmp_path: Path) -> None:
    for name, texts in (("queries.csv", HELD_OUT), ("faq.csv", QUESTIONS)):
        (tmp_path / name).write_text("\n".join(["text", *texts]) + "\n")
    tables = [str(tmp_path / "queries.csv"), str(tmp_path / "faq.csv")]
    done = CliRunner().invoke(cli, ["rank", str(directory), *tables, "--familiarity", "--top-k", "2", "--no-head"])
    assert done.exit_code == 0, done.stderr
    with Matcher.load(directory, device="cpu") as matcher:
        expected = {text: f"{value:.6f}" for text, value in zip(HELD_OUT, matcher.familiarity(HELD_OUT), strict=True)}
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 2 * len(HELD_OUT)
    assert all(row["familiarity"] == expected[row["text"]] for row in rows)
