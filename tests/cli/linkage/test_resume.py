from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from flipkd_sdk.cli.linkage import encoding
from flipkd_sdk.cli.linkage.local_engine import LocalTableEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = [["id", "text"], *([i, f"text number {i % 37}"] for i in range(60))]


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Windows of eight texts, and an engine that fails after the third."""
    monkeypatch.setattr(encoding, "_WINDOW", 8)
    original = LocalTableEngine.encoded

    def failing(self: LocalTableEngine, windows: list[list[str]]) -> Iterator[object]:
        for number, found in enumerate(original(self, windows)):
            if number == 3:
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as context:
        context.setattr(LocalTableEngine, "encoded", failing)
        yield context


@pytest.mark.parametrize("command", ["dedupe", "link"])
def test_a_run_that_stopped_goes_on_and_writes_the_same(
    run, write, tmp_path: Path, stops, monkeypatch, command
) -> None:
    tables = [write("t.csv", ROWS)]
    if command == "link":
        tables.append(write("b.csv", [ROWS[0], *ROWS[30:]]))
    out, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    arguments = [command, *tables, "--threshold", "0.9", "--out"]
    monkeypatch.setattr(sys, "argv", ["flipkd", *map(str, [*arguments, out])])
    done = run(*arguments, out)
    assert done.exit_code == 130
    assert f"24 texts are encoded; go on with: flipkd {command} {tables[0]}" in done.stderr
    assert f"{out} --resume" in done.stderr
    assert not out.exists()
    refused = run(*arguments, out)
    assert "a run stopped here before its end; pass --resume" in refused.stderr
    stops.undo()
    encoded = []
    original = LocalTableEngine.encoded
    monkeypatch.setattr(
        LocalTableEngine, "encoded", lambda self, windows: original(self, [encoded.append(w) or w for w in windows])
    )
    assert run(*arguments, out, "--resume").exit_code == 0
    assert sum(map(len, encoded)) == 37 - 24
    assert run(*arguments, whole).exit_code == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if "resume" in path.name) == []
    again = run(*arguments, out, "--resume")
    assert (again.exit_code, "complete already" in again.stderr) == (0, True)


def test_another_table_or_threshold_of_the_matcher_is_not_continued(run, write, tmp_path: Path, stops) -> None:
    out = tmp_path / "out.csv"
    assert run("dedupe", write("t.csv", ROWS), "--out", out).exit_code == 130
    stops.undo()
    done = run("dedupe", write("t.csv", [["id", "text"], [1, "other"]]), "--out", out, "--resume")
    assert done.exit_code == 1
    assert "are not those that the run which stopped has encoded" in done.stderr
    done = run("dedupe", tmp_path / "t.csv", "--out", out, "--resume", "--column", "2")
    assert "the run that stopped had --column 'text', this one has '2'" in done.stderr
    done = run("dedupe", tmp_path / "t.csv", "--out", out, "--overwrite")
    assert done.exit_code == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.write_text(table.read_text().replace("text number 5", "text number V")),
        lambda table: table.write_text(table.read_text() + "99;one more\n"),
        lambda table: table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n"),
    ],
    ids=["text", "longer", "shorter"],
)
@pytest.mark.parametrize("side", ["a", "b", "only"])
def test_a_table_that_changes_during_the_run_is_an_error(run, write, tmp_path, monkeypatch, change, side) -> None:
    table, other = write("t.csv", ROWS), write("o.csv", ROWS)
    original = encoding.encode_texts

    def encode_texts(*arguments: object) -> object:
        change(table)
        return original(*arguments)

    monkeypatch.setattr(encoding, "encode_texts", encode_texts)
    command = {"a": ("link", table, other), "b": ("link", other, table), "only": ("dedupe", table)}[side]
    done = run(*command, "--threshold", "0.9", "--out", tmp_path / "out.csv")
    assert done.exit_code == 1
    assert "t.csv: changed during the run, at row " in done.stderr
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("command", ["dedupe", "link"])
def test_a_full_disk_is_one_line(run, write, command: str) -> None:
    tables = [write("t.csv", ROWS), write("b.csv", ROWS)][: 1 + (command == "link")]
    done = run(command, *tables, "--threshold", "0.9", "--out", "/dev/full")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "flipkd: error: /dev/full: No space left on device"
