from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING

import pytest

from flipkd_sdk.cli.linkage import groups_page

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    "Top up",
    "reset my PIN",
    "",
    "Top up",
    "reset my card PIN",
    "fee; abroad",
    "  ",
    "Top-up",
    *["<b>fee</b>!"] * 2,
]
ROWS = [["id", "text"], *([f"x{i}", text] for i, text in enumerate(TEXTS))]


def data_of(page: str) -> dict[str, list[float]]:
    found = re.search(r'data-counts="([^"]*)"', page)
    assert found
    data: dict[str, list[float]] = json.loads(found.group(1).replace("&quot;", '"'))
    return data


@pytest.mark.parametrize("linkage", ["average", "complete", "components"])
def test_the_rows_are_those_without_a_page_and_the_counts_those_of_the_rows(
    run, write, tmp_path: Path, linkage: str
) -> None:
    table, report = write("t.csv", ROWS), tmp_path / "groups.html"
    common = (table, "--threshold", "0.9", "--threshold", "0.6", "--linkage", linkage, "--out")
    assert run("dedupe", *common, tmp_path / "plain.csv").exit_code == 0
    done = run("dedupe", *common, tmp_path / "o.csv", "--report", report)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    page = report.read_text(encoding="utf-8")
    with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    data = data_of(page)
    for threshold, column in ((0.9, "group"), (0.6, "group_0.6")):
        position = data["thresholds"].index(threshold)
        groups = [row[column] for row in rows]
        sizes = [groups.count(group) for group in set(groups)]
        assert data["groups"][position] == len(sizes)
        assert data["several"][position] == sum(size > 1 for size in sizes)
        assert data["largest"][position] == max(sizes)
    assert f"{len(rows)} rows are {len({row['group'] for row in rows})} groups at the threshold 0.9000." in page
    assert "&lt;b&gt;fee&lt;/b&gt;!" in page
    assert "<b>fee" not in page
    assert data["thresholds"][0] < 0.6


def test_a_page_has_a_bounded_number_of_groups_and_texts_and_counts_the_others(
    run, write, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(groups_page, "_LARGEST", 2)
    monkeypatch.setattr(groups_page, "_DOUBTFUL", 3)
    monkeypatch.setattr(groups_page, "_TEXTS", 6)
    texts = [f"{word} number {i}" for word in ("reset", "lost", "fee", "top", "card", "loan") for i in range(30)]
    report = tmp_path / "groups.html"
    arguments = ("--out", tmp_path / "o.csv", "--threshold", "0.5", "--neighbours", "40", "--report", report)
    done = run("dedupe", write("t.csv", [["text"], *([text] for text in texts)]), *arguments, "--json")
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)["thresholds"][0]
    page = report.read_text(encoding="utf-8")
    assert counts["groups_of_several"] > 2
    assert f"{counts['groups_of_several'] - 2:,} groups of several rows are not shown." in page
    assert page.count("<h3>") == 5
    assert max(part.count("<small>") for part in page.split('<ol class="members">')[1:]) <= 6 + 6
    assert "more distinct texts of this group are not shown" in page
    assert "; canonical" in page


@pytest.mark.parametrize("rows", [[["text"]], [["text"], ["one"]], [["text"], [""], ["one"], ["one"]]])
def test_few_rows_make_a_page_too(run, write, tmp_path: Path, rows: list[list[str]]) -> None:
    report = tmp_path / "groups.html"
    done = run("dedupe", write("t.csv", rows), "--out", tmp_path / "o.csv", "--threshold", "1", "--report", report)
    assert done.exit_code == 0, done.output
    assert f"{len(rows) - 1} rows are" in report.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_stops_the_run_before_it_starts(run, write, tmp_path: Path) -> None:
    table, report = write("t.csv", ROWS), tmp_path / "groups.html"
    report.write_text("mine")
    done = run("dedupe", table, "--out", tmp_path / "o.csv", "--threshold", "0.9", "--report", report)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "groups.html: exists already" in done.stderr
    assert report.read_text() == "mine"
    assert not (tmp_path / "o.csv").exists()
    done = run("dedupe", table, "--out", tmp_path / "o.csv", "--report", tmp_path / "." / "o.csv")
    assert done.exit_code == 2
    assert "--out and --report name the same file" in done.stderr
    done = run("dedupe", table, "--out", tmp_path / "o.csv", "--report", "/dev/full", "--threshold", "0.9")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "flipkd: error: /dev/full: No space left on device"
    assert not (tmp_path / "o.csv").exists()
