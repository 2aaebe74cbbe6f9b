"""A disk that is full: one line of error, the old file as it was, and nothing half-written."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from tiny import TEXTS

from flipkd_sdk.cli.main import cli
from flipkd_sdk.pairs import Pairs, write_pairs
from flipkd_sdk.runtimes.matcher import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")

ROOM = 1 << 13


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 8 KiB, which needs no disk of its own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "pairs.csv"
    path.parent.mkdir()
    rows = "".join(f"{i * 7919 % 10007:x} card {i * i},{i * 104729 % 7907:x} pin {i},{i % 2}\n" for i in range(1000))
    path.write_text("text_a,text_b,label\n" + rows)
    return path


COMMANDS = {
    "score": ["score", "{matcher}", "{table}"],
    "score in place of an old file": ["score", "{matcher}", "{table}", "--overwrite"],
    "rank": ["rank", "{matcher}", "{table}", "{few}", "--query-column", "1", "--candidate-column", "1"],
}


@pytest.mark.parametrize("out", ["out.csv", "out.csv.gz", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_does_not_fit_is_removed(
    tiny_matcher: Path, table: Path, tmp_path: Path, command: str, out: str
) -> None:
    few = table.with_name("few.csv")
    few.write_text("text_a\ncard\npin\n")
    target = tmp_path / "out" / out
    target.parent.mkdir()
    if "--overwrite" in COMMANDS[command]:
        target.write_bytes(b"old")
    names = {"matcher": str(tiny_matcher), "table": str(table), "few": str(few)}
    arguments = [word.format(**names) for word in COMMANDS[command]]
    with full_disk():
        done = CliRunner().invoke(cli, [*arguments, "--out", str(target)])
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit)
    assert done.stderr.splitlines()[-1].startswith("flipkd: error: ")
    assert done.stderr.count("flipkd: error: ") == 1
    left = {path.name: path for path in target.parent.iterdir()}
    # The scores so far are kept, so that another run can continue.
    left.pop(f"{out}.resume", None)
    if "--overwrite" in arguments:
        assert left.pop(out).read_bytes() == b"old"
    assert not left


def test_a_run_continues_when_there_is_room_again(tiny_matcher: Path, table: Path, tmp_path: Path) -> None:
    arguments = ["score", str(tiny_matcher), str(table)]
    with full_disk():
        assert CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "out.csv")]).exit_code == 1
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "out.csv"), "--resume"])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "again.csv")]).exit_code == 0
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()


def test_a_file_of_rejects_that_does_not_fit_stops_the_run(tiny_matcher: Path, table: Path, tmp_path: Path) -> None:
    table.write_text("text_a,text_b\n" + "one field\n" * 2000 + "a,b\n")
    out = tmp_path / "out.csv"
    with full_disk():
        done = CliRunner().invoke(
            cli, ["score", str(tiny_matcher), str(table), "--out", str(out), "--on-error", "skip"]
        )
    assert done.exit_code == 1
    assert "rejects" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("old", [False, True])
def test_candidates_that_do_not_fit_are_removed(tiny_matcher: Path, tmp_path: Path, old: bool) -> None:
    path = tmp_path / "candidates"
    with Matcher.load(tiny_matcher, on_truncate="ignore") as matcher:
        if old:
            matcher.candidates(TEXTS).save(path)
        before = {file.name: file.read_bytes() for file in path.iterdir()} if old else {}
        many = matcher.candidates(f"text {i}" for i in range(2000))
        with full_disk(), pytest.raises(OSError, match="candidates"):
            many.save(path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == (["candidates"] if old else [])
    assert before == ({file.name: file.read_bytes() for file in path.iterdir()} if old else {})


def test_pairs_that_do_not_fit_are_removed(tmp_path: Path) -> None:
    texts = tuple(f"text {i}" for i in range(2000))
    with full_disk(), pytest.raises(OSError, match=r"pairs\.csv"):
        write_pairs(Pairs(texts, texts, np.zeros(2000, np.int8)), tmp_path / "pairs.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize("command", ["score", "rank"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_full_device_is_one_line_of_error(tiny_matcher: Path, table: Path, command: str, suffix: str) -> None:
    if suffix == "jsonl":
        table.with_suffix(".jsonl").write_text('{"text_a": "a", "text_b": "b"}\n')
        table = table.with_suffix(".jsonl")
    more = [str(table), "--query-column", "text_a", "--candidate-column", "text_b"] if command == "rank" else []
    # Given, because rank warns of a matcher without a search threshold.
    more += ["--threshold", "0.5"]
    done = CliRunner().invoke(cli, [command, str(tiny_matcher), str(table), *more, "--out", "/dev/full"])
    assert done.exit_code == 1
    assert done.stderr.startswith("flipkd: error: ")
    assert "/dev/full" in done.stderr
    assert done.stderr.count("\n") == 1
