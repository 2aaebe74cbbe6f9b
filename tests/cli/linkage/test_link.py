from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from flipkd_sdk import Matcher
from flipkd_sdk.runtimes.linkage.link import link

if TYPE_CHECKING:
    from pathlib import Path

A = [["id", "text"], [1, "reset my PIN"], [2, "a lost card"], [3, ""], [4, "reset my PIN"]]
B = [["no", "faq", "topic"], ["f1", "a lost card!", "cards"], ["f2", "reset my PIN", "pin"], ["f3", "Top; up", "pay"]]


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=";"))


def test_matches_have_the_columns_of_both_sides(run, write, tmp_path: Path, tiny_matcher: Path) -> None:
    out = tmp_path / "out.csv"
    done = run("link", write("a.csv", A), write("b.csv", B), "--b-column", "faq", "--out", out, "--threshold", "0.01")
    assert done.exit_code == 0, done.output
    with Matcher.load(tiny_matcher, precision="fp32") as matcher:
        found = link(matcher, [str(row[1]) for row in A[1:]], [str(row[1]) for row in B[1:]], threshold=0.01)
    rows = read(out)
    assert rows[0] == ["id", "text", "a_row", "b_row", "b_no", "b_faq", "b_topic", "score"]
    assert rows[1:] == [
        [*map(str, A[a + 1]), str(a + 1), str(b + 1), *map(str, B[b + 1]), f"{score:.6f}"]
        for a, b, score in zip(*found[:3], strict=True)
    ]
    assert [row[2] for row in rows[1:]] == ["1", "2", "4"]
    assert "4 and 3 rows, 3 matches at 0.0100, 1 and 1 rows without" in done.stderr


def test_chosen_columns_and_rows_without_a_match(run, write, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    arguments = ("--b-column", "2", "--b-columns", "no", "--unmatched", "--one-to-one", "--b-prefix", "faq_")
    done = run("link", write("a.csv", A), write("b.csv", B), "--out", out, "--threshold", "0.9", *arguments)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["a_row"] for line in lines] == [1, 2, 3, 4]
    assert lines[0] == {"id": "1", "text": "reset my PIN", "a_row": 1, "b_row": 2, "faq_no": "f2", "score": 1.0} | {
        "score": lines[0]["score"]
    }
    assert lines[3] == {"id": "4", "text": "reset my PIN", "a_row": 4, "b_row": None, "faq_no": None, "score": None}


def test_numbers_of_json_and_parquet_stay_numbers(run, write, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "b.jsonl").write_text('{"text": "reset my PIN", "no": 5, "tags": ["x", 1]}\n{"text": "other"}\n')
    out = tmp_path / "o.jsonl"
    assert run("link", write("a.csv", A), tmp_path / "b.jsonl", "--out", out, "--threshold", "0.95").exit_code == 0
    line = json.loads(out.read_text().splitlines()[0])
    assert (line["b_no"], line["b_tags"]) == (5, ["x", 1])
    pq.write_table(pa.table({"text": ["reset my PIN"], "no": [5]}), tmp_path / "b.parquet")
    out = tmp_path / "o.parquet"
    done = run("link", write("a.csv", A), tmp_path / "b.parquet", "--out", out, "--threshold", "0.95", "--unmatched")
    assert done.exit_code == 0, done.output
    assert pq.read_table(out)["b_no"].to_pylist() == ["5", None, None, "5"]
    assert pq.read_table(out)["b_row"].to_pylist() == [1, None, None, 1]


@pytest.mark.parametrize(("a", "b"), [(A[:1], B), (A, B[:1]), (A[:1], B[:1]), (A[:2], B[:2])])
def test_empty_sides_and_one_row(run, write, tmp_path: Path, a: list[list[object]], b: list[list[object]]) -> None:
    out = tmp_path / "o.csv"
    arguments = ("--b-column", "faq", "--threshold", "1", "--out", out)
    done = run("link", write("a.csv", a), write("b.csv", b), *arguments)
    assert done.exit_code == 0, done.output
    assert len(read(out)) == 1
    assert run("link", tmp_path / "a.csv", tmp_path / "b.csv", *arguments, "--overwrite", "--unmatched").exit_code == 0
    assert len(read(out)) == len(a)


def test_a_column_that_one_side_lacks_is_named_with_its_option(run, write, tmp_path: Path) -> None:
    a, b, out = write("a.csv", A), write("b.csv", B), tmp_path / "o.csv"
    done = run("link", a, b, "--out", out)
    assert "b.csv: no column 'text'; the header has: 'no', 'faq', 'topic'; name it with --b-column" in done.stderr
    done = run("link", b, a, "--out", out)
    assert "name it with --a-column" in done.stderr
    done = run("link", a, b, "--b-column", "faq", "--b-columns", "price", "--out", out)
    assert "b.csv: no column 'price'" in done.stderr
    done = run("link", a, b, "--b-column", "faq", "--b-prefix", "", "--score-column", "id", "--out", out)
    assert "has a column 'id' already; name another with --score-column" in done.stderr
    assert not out.exists()


def test_ids_may_repeat_because_rows_are_numbered(run, write, tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    a = write("a.csv", [["id", "text"], ["x", "one"], ["x", "one"]])
    done = run(
        "link", a, write("b.csv", [["id", "text"], ["y", "one"], ["y", "two"]]), "--threshold", "0.95", "--out", out
    )
    assert done.exit_code == 0, done.output
    assert [row[2:4] for row in read(out)[1:]] == [["1", "1"], ["2", "1"]]


@pytest.mark.parametrize("name", ["a.csv", "./a.csv", "link.csv"])
@pytest.mark.parametrize("column", [(), ("--a-column", "text"), ("--a-column", "text", "--b-column", "text")])
def test_the_same_file_on_both_sides_is_refused(run, write, tmp_path: Path, name: str, column: tuple[str, ...]) -> None:
    a = write("a.csv", A)
    (tmp_path / "link.csv").symlink_to(a)
    done = run("link", a, tmp_path / name, "--out", tmp_path / "o.csv", *column)
    assert done.exit_code == 2
    assert "are the same file" in done.stderr
    assert "flipkd dedupe" in done.stderr
    assert not (tmp_path / "o.csv").exists()


def test_two_columns_of_one_file_may_be_joined(run, write, tmp_path: Path) -> None:
    rows = [["text", "answer"], ["one", "two"], ["two", "three"]]
    table, out = write("t.csv", rows), tmp_path / "o.csv"
    done = run("link", table, table, "--b-column", "answer", "--threshold", "0.95", "--out", out)
    assert done.exit_code == 0, done.output
    assert [row[2:4] for row in read(out)[1:]] == [["2", "1"]]


def test_one_to_one_takes_no_top_k(run, write, tmp_path: Path) -> None:
    done = run("link", write("a.csv", A), write("b.csv", B), "--one-to-one", "--top-k", "2", "--out", tmp_path / "o")
    assert done.exit_code == 2
    assert "--one-to-one gives a row one match" in done.stderr
