from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.manifest import read_manifest
from flipkd_sdk.cli.main import cli
from flipkd_sdk.evaluation.calibration import SearchThreshold

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flipkd_sdk.evaluation.calibration import Calibration

QUERIES = ["reset my PIN", "a lost card", "fee, abroad"]
CANDIDATES = ["How do I reset my card PIN?", 'A "lost" card', "Is there a fee; abroad?", "Top up"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "queries.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";").writerows([["id", "text"], *enumerate(QUERIES)])
    lines = [json.dumps({"no": i, "faq": text}) for i, text in enumerate(CANDIDATES)]
    (tmp_path / "faq.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.fixture
def rank(tiny_matcher: Path, folder: Path) -> Callable[..., Result]:
    def run(*arguments: str | Path, candidates: Path = folder / "faq.jsonl") -> Result:
        given = [str(tiny_matcher), str(folder / "queries.csv"), str(candidates), "--candidate-column", "faq"]
        return CliRunner().invoke(cli, ["rank", *given, *map(str, arguments)])

    return run


def test_each_query_comes_with_its_best_candidates(rank: Callable[..., Result], tiny_matcher: Path) -> None:
    done = rank("--top-k", "2")
    assert done.exit_code == 0, done.stderr
    rows = list(csv.reader(io.StringIO(done.stdout, newline=""), delimiter=";"))
    assert rows[0] == ["id", "text", "rank", "candidate_row", "candidate", "score", "match"]
    with Matcher.load(tiny_matcher) as matcher:
        expected = [
            [str(i), query, str(n), str(m.index + 1), m.text, f"{m.score:.6f}", str(int(m.score >= matcher.threshold))]
            for i, query in enumerate(QUERIES)
            for n, m in enumerate(matcher.rank(query, CANDIDATES, top_k=2), start=1)
        ]
    assert rows[1:] == expected


def test_cutoffs_drop_candidates(rank: Callable[..., Result], tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher) as matcher:
        scores = [match.score for query in QUERIES for match in matcher.rank(query, CANDIDATES)]
        threshold = matcher.threshold
    assert len(rank("--only-matches").stdout.splitlines()) - 1 == sum(score >= threshold for score in scores)
    assert len(rank("--score-cutoff", "0.2").stdout.splitlines()) - 1 == sum(score >= 0.2 for score in scores)
    assert len(rank("--score-cutoff", "1").stdout.splitlines()) == 1


def test_other_formats_are_written(rank: Callable[..., Result], folder: Path) -> None:
    assert rank("--out", folder / "found.jsonl").exit_code == 0
    found = [json.loads(line) for line in (folder / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(item["id"], item["rank"]) for item in found] == [(str(i), n) for i in range(3) for n in range(1, 5)]
    parquet = pytest.importorskip("pyarrow.parquet")
    assert rank("--out", folder / "found.parquet").exit_code == 0
    table = parquet.read_table(folder / "found.parquet")
    assert table["candidate"].to_pylist() == [item["candidate"] for item in found]
    assert "exists already" in rank("--out", folder / "found.parquet").stderr


def test_candidates_are_kept_and_used_again(rank: Callable[..., Result], folder: Path) -> None:
    first = rank("--save-candidates", folder / "kept")
    assert first.exit_code == 0, first.stderr
    (folder / "faq.jsonl").unlink()
    assert rank(candidates=folder / "kept").stdout == first.stdout


def test_errors_name_their_cause(rank: Callable[..., Result], folder: Path) -> None:
    assert "queries.csv: no column 'absent'; the header has: 'id', 'text'" in rank("--query-column", "absent").stderr
    assert "faq.jsonl:1: no key 'absent'" in rank("--candidate-column", "absent").stderr
    (folder / "queries.csv").write_text("rank,text\n1,a\n", encoding="utf-8")
    assert "queries.csv: the table has a column 'rank' already; rename it" in rank().stderr


def test_the_threshold_of_the_command_decides(rank: Callable[..., Result]) -> None:
    for threshold, flag in (("0", "1"), ("1", "0")):
        rows = list(csv.DictReader(io.StringIO(rank("--threshold", threshold).stdout, newline=""), delimiter=";"))
        assert {row["match"] for row in rows if row["score"] != "1.000000"} == {flag}
    assert len(rank("--threshold", "1", "--only-matches").stdout.splitlines()) == 1
    assert rank("--threshold", "nan").exit_code == 2


def test_a_search_threshold_decides_and_without_one_that_of_pairs_is_warned_about(
    folder: Path, tiny_matcher: Path, tmp_path: Path
) -> None:
    matcher = shutil.copytree(tiny_matcher, tmp_path / "search")
    old = read_manifest(matcher)
    arguments = ["rank", str(matcher), str(folder / "queries.csv"), str(folder / "faq.jsonl")]

    def rank_with(calibration: Calibration, *more: str) -> Result:
        (matcher / "manifest.json").write_text(replace(old, calibration=calibration).to_json(), encoding="utf-8")
        return CliRunner().invoke(cli, [*arguments, "--candidate-column", "faq", *more])

    without = replace(old.calibration, search=None)
    warning = "this matcher has no search threshold; 0.5000 was fitted on pairs"
    assert rank_with(without).stderr.count(warning) == 1
    for quiet in (rank_with(without, "--threshold", "0.9"), rank_with(replace(without, objective="f1 at prior 0.01"))):
        assert "warning" not in quiet.stderr
    for threshold, flag in ((0.0, "1"), (1.0, "0")):
        done = rank_with(replace(without, search=SearchThreshold(threshold, 0.95, 100, 10)))
        rows = list(csv.DictReader(io.StringIO(done.stdout, newline=""), delimiter=";"))
        assert {row["match"] for row in rows if row["score"] != "1.000000"} == {flag}
        assert "warning" not in done.stderr
