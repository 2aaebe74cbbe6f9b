from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from flipkd_sdk import Matcher
from flipkd_sdk.runtimes.linkage import proposals
from flipkd_sdk.runtimes.linkage.dedupe import dedupe

if TYPE_CHECKING:
    from pathlib import Path


TEXTS = ["Top up", "reset my PIN", "", "Top up", "reset my card PIN", "fee; abroad", "  ", "Top-up"]
ROWS = [["id", "text"], *([f"x{i}", text] for i, text in enumerate(TEXTS))]


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=";"))


def test_rows_keep_their_columns_and_get_their_group(run, write, tmp_path: Path, tiny_matcher: Path) -> None:
    table, out = write("t.csv", ROWS), tmp_path / "out.csv"
    done = run("dedupe", table, "--out", out, "--threshold", "0.8")
    assert done.exit_code == 0, done.output
    with Matcher.load(tiny_matcher, precision="fp32") as matcher:
        groups = dedupe(matcher, TEXTS, threshold=0.8)
    rows = read(out)
    assert rows[0] == ["id", "text", "group", "group_rows", "canonical", "score"]
    assert [row[:2] for row in rows] == ROWS
    assert [int(row[2]) - 1 for row in rows[1:]] == groups.canonical.tolist()
    assert [int(row[3]) for row in rows[1:]] == groups.sizes.tolist()
    assert [int(row[4]) for row in rows[1:]] == [int(first == row) for row, first in enumerate(groups.canonical)]
    assert [row[5] for row in rows[1:]] == [f"{score:.6f}" for score in groups.score]
    assert "8 rows, " in done.stderr
    assert f"{groups.count} groups at 0.8000" in done.stderr
    assert "2 rows with a blank text" in done.stderr


def test_formats_can_change_and_types_stay(run, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": pa.array([7, 8, 9], pa.int16()), "text": ["a", "b", "a"]}), tmp_path / "t.parquet")
    assert run("dedupe", tmp_path / "t.parquet", "--out", tmp_path / "o.parquet", "--threshold", "1").exit_code == 0
    found = pq.read_table(tmp_path / "o.parquet")
    assert found.schema.field("id").type == pa.int16()
    assert found["group"].to_pylist() == [1, 2, 1]
    assert run("dedupe", tmp_path / "t.parquet", "--out", tmp_path / "o.jsonl", "--threshold", "1").exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert lines[2] == {"id": 9, "text": "a", "group": 1, "group_rows": 2, "canonical": 0, "score": 1.0}


def test_several_thresholds_make_further_columns_and_counts(run, write, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = run("dedupe", write("t.csv", ROWS), "--out", out, "--threshold", "0.9", "--threshold", "0.3", "--json")
    assert done.exit_code == 0, done.output
    rows = read(out)
    assert rows[0][-1] == "group_0.3"
    figures = json.loads(done.stdout)
    assert [count["threshold"] for count in figures["thresholds"]] == [0.9, 0.3]
    assert figures["thresholds"][0]["groups"] == len({row[2] for row in rows[1:]})
    assert figures["thresholds"][1]["groups"] == len({row[-1] for row in rows[1:]})
    assert (figures["rows"], figures["distinct_texts"], figures["blank_rows"]) == (8, 7, 2)


def test_only_canonical_rows_make_a_table_without_duplicates(run, write, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert run("dedupe", write("t.csv", ROWS), "--out", out, "--threshold", "1", "--only-canonical").exit_code == 0
    assert [row[1] for row in read(out)[1:]] == ["Top up", "reset my PIN", "", "reset my card PIN", *TEXTS[5:]]


@pytest.mark.parametrize("rows", [[["text"]], [["text"], ["one"]]])
def test_an_empty_table_and_one_row_are_tables(run, write, tmp_path: Path, rows: list[list[str]]) -> None:
    out = tmp_path / "out.csv"
    done = run("dedupe", write("t.csv", rows), "--out", out, "--threshold", "0.5")
    assert done.exit_code == 0, done.output
    assert len(read(out)) == len(rows)


def test_without_threshold_that_of_the_matcher_is_used(run, write, tmp_path: Path) -> None:
    done = run("dedupe", write("t.csv", ROWS), "--out", tmp_path / "out.csv")
    assert done.exit_code == 0
    assert "groups at 0.5000" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "-", "--resume"), "--resume needs an output that is a file"),
        (("--out", "-", "--json"), "--json prints to standard output"),
        (("--out", "-", "--on-error", "skip"), "--on-error skip needs --rejects"),
        (("--out", "o.csv", "--workers", "2"), "--workers is for --engine ray"),
        (("--out", "o.csv", "--threshold", "0.5", "--threshold", "0.5"), "given twice"),
        (("--out", "o.csv", "--threshold", "nan"), "nan is not a number"),
        ((), "Missing option '--out'"),
    ],
)
def test_options_that_do_not_go_together(run, write, arguments: tuple[str, ...], message: str) -> None:
    done = run("dedupe", write("t.csv", ROWS), *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_mistakes_are_one_line(run, write, tmp_path: Path) -> None:
    table = write("t.csv", ROWS)
    done = run("dedupe", table, "--out", tmp_path / "o.csv", "--column", "question")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "no column 'question'; the header has: 'id', 'text'; name it with --column" in done.stderr
    done = run("dedupe", write("g.csv", [["text", "group"], ["a", "b"]]), "--out", tmp_path / "o.csv")
    assert "has a column 'group' already; name another with --group-column" in done.stderr
    done = run("dedupe", "-", "--out", tmp_path / "o.csv")
    assert "standard input: the table is read twice" in done.stderr
    assert not (tmp_path / "o.csv").exists()


def test_an_approximate_search_without_its_package_is_one_line(run, write, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(proposals.importlib.util, "find_spec", lambda name: None)
    done = run("dedupe", write("t.csv", ROWS), "--out", tmp_path / "o.csv", "--search", "ann")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "dedupe needs the Python package 'usearch'; run: pip install 'flipkd-sdk[ann]'" in done.stderr


def test_ids_may_repeat_because_rows_are_numbered(run, write, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    table = write("t.csv", [["id", "text"], ["x", "Top up"], ["x", "reset my PIN"], ["x", "Top up"]])
    assert run("dedupe", table, "--out", out, "--threshold", "1").exit_code == 0
    assert [row[:3] for row in read(out)[1:]] == [
        ["x", "Top up", "1"],
        ["x", "reset my PIN", "2"],
        ["x", "Top up", "1"],
    ]


def test_bad_rows_are_skipped_and_kept_as_rejects(run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text\n1,one\nragged\n2,one\n")
    done = run("dedupe", tmp_path / "t.csv", "--out", tmp_path / "o.csv", "--threshold", "0.9", "--on-error", "skip")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "o.csv").read_text() == (
        "id,text,group,group_rows,canonical,score\n1,one,1,2,1,1.000000\n2,one,1,2,0,1.000000\n"
    )
    assert json.loads((tmp_path / "o.csv.rejects.jsonl").read_text())["line"] == 3
    assert run("dedupe", tmp_path / "t.csv", "--out", tmp_path / "p.csv", "--threshold", "0.9").exit_code == 1
