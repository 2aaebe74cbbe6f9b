"""Temporary and resume files that somebody else has put where ours are expected."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from flipkd_sdk.atomic import atomic_directory, atomic_file
from flipkd_sdk.cli.main import cli
from flipkd_sdk.errors import OutputExistsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def hard_link(place: Path, victim: Path) -> None:
    place.hardlink_to(victim)


def fifo(place: Path, _victim: Path) -> None:
    os.mkfifo(place)


def folder(place: Path, _victim: Path) -> None:
    place.mkdir()


def listening(place: Path, _victim: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))


KINDS = [link, hard_link, fifo, folder, listening]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("text_a,text_b\ncard,pin\n")
    return path


def score(matcher: Path, table: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["score", str(matcher), str(table), "--out", str(out), *options])


@pytest.mark.parametrize("put", KINDS)
def test_nothing_is_written_through_a_planted_temporary_file(
    tmp_path: Path, victim: Path, put: Callable[[Path, Path], None]
) -> None:
    put(tmp_path / ".out.csv.part", victim)
    with (
        pytest.raises(OutputExistsError, match=r"\.out\.csv\.part: .*; move it away"),
        atomic_file(tmp_path / "out.csv", exclusive=True) as file,
    ):
        file.write(b"overwritten")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "out.csv").exists()
    assert os.path.lexists(tmp_path / ".out.csv.part"), "what is not ours is not removed"


@pytest.mark.parametrize("dangling", [True, False])
def test_no_directory_is_written_through_a_planted_link(tmp_path: Path, dangling: bool) -> None:
    victim = tmp_path / "victim"
    if not dangling:
        victim.mkdir()
        (victim / "precious").touch()
    (tmp_path / ".out.part").symlink_to(victim)
    with pytest.raises(FileExistsError), atomic_directory(tmp_path / "out", exclusive=True) as working:
        (working / "a").touch()
    assert dangling != victim.exists()
    assert dangling or [path.name for path in victim.iterdir()] == ["precious"]


@pytest.mark.parametrize("put", KINDS)
@pytest.mark.parametrize("name", [".v.csv.part", "v.csv.resume", ".v.csv.rejects.jsonl.part"])
@pytest.mark.parametrize("options", [(), ("--resume",), ("--overwrite",)])
def test_a_planted_file_is_refused_in_one_line(
    tmp_path: Path,
    tiny_matcher: Path,
    table: Path,
    victim: Path,
    name: str,
    put: Callable[[Path, Path], None],
    options: tuple[str, ...],
) -> None:
    put(tmp_path / name, victim)
    done = score(tiny_matcher, table, tmp_path / "v.csv", "--on-error", "skip", *options)
    assert victim.read_text() == "precious"
    if done.exit_code == 0:
        # A new run removes the resume file of an earlier one: the name, not what is behind it.
        assert options == ("--overwrite",) and name == "v.csv.resume"
        return
    assert done.exit_code == 1
    assert done.stderr.startswith("flipkd: error: ") and done.stderr.count("\n") == 1
    assert name in done.stderr
    assert not (tmp_path / "v.csv").exists()
