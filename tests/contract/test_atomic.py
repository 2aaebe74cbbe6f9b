from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from flipkd_sdk.atomic import (
    atomic_directory,
    atomic_file,
    check_directory,
    check_file,
    open_own_file,
    write_text,
)
from flipkd_sdk.errors import OutputExistsError

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_file_takes_its_name_at_the_end(tmp_path: Path, exclusive: bool) -> None:
    path = tmp_path / "out"
    with atomic_file(path, exclusive=exclusive) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_error_keeps_the_old_file(tmp_path: Path, exclusive: bool, error: type[BaseException]) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path, exclusive=exclusive) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_two_writers_that_are_not_exclusive_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with atomic_file(path) as one, atomic_file(path) as other:
        one.write(b"one" * 1000)
        other.write(b"other")
    assert path.read_bytes() == b"one" * 1000
    assert names(tmp_path) == ["cache"]


def test_the_longest_name_of_a_file_system_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("密" * 85)
    for exclusive in (True, False):
        with atomic_file(path, exclusive=exclusive) as file:
            file.write(b"x")
    with atomic_directory(tmp_path / ("密" * 84)):
        pass
    assert len(names(tmp_path)) == 2


def test_text_is_utf_8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "out", "ä\r\nb\n")
    assert (tmp_path / "out").read_bytes() == b"\xc3\xa4\r\nb\n"


@posix
def test_a_link_is_followed_to_the_file_and_to_the_directory(tmp_path: Path) -> None:
    for name in ("file", "folder"):
        (tmp_path / f"link to {name}").symlink_to(tmp_path / name)
    write_text(tmp_path / "link to file", "x")
    with atomic_directory(tmp_path / "link to folder") as working:
        (working / "a").touch()
    assert (tmp_path / "link to file").is_symlink() and (tmp_path / "file").read_text() == "x"
    assert (tmp_path / "link to folder").is_symlink() and names(tmp_path / "folder") == ["a"]


@posix
def test_a_loop_of_links_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "a" / "c", "x")
    assert str(caught.value.filename).startswith(str(tmp_path))


def test_a_directory_replaces_the_old_one_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out"
    for content in ("one", "two"):
        with atomic_directory(path) as working:
            (working / content).touch()
    assert names(path) == ["two"]
    assert names(tmp_path) == ["deep"] and names(path.parent) == ["out"]


def test_a_directory_that_has_appeared_is_kept_on_request(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "out", keep_existing=True) as working:
        (working / "mine").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()
    assert names(tmp_path / "out") == ["theirs"]
    assert names(tmp_path) == ["out"]


def test_an_exclusive_directory_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "half").touch()
    with atomic_directory(tmp_path / "out", exclusive=True) as working:
        (working / "whole").touch()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["whole"]


def test_the_policy_for_files(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    check_file(tmp_path / "new", overwrite=False)
    check_file(tmp_path / "old", overwrite=True)
    with pytest.raises(OutputExistsError, match="old: exists already; pass --overwrite to replace it or choose"):
        check_file(tmp_path / "old", overwrite=False)
    with pytest.raises(OutputExistsError, match="a directory; name a file in it"):
        check_file(tmp_path, overwrite=True)


def test_the_policy_for_directories(tmp_path: Path) -> None:
    def foreign(path: Path) -> str | None:
        return None if (path / "mark").exists() else "not a marked directory"

    path = tmp_path / "old"
    check_directory(path, overwrite=False, foreign=foreign)
    path.mkdir()
    check_directory(path, overwrite=False, foreign=foreign)
    (path / "thesis").touch()
    with pytest.raises(OutputExistsError, match="not a marked directory, so -f does not replace it; remove it"):
        check_directory(path, overwrite=True, foreign=foreign, option="-f")
    (path / "mark").touch()
    check_directory(path, overwrite=True, foreign=foreign)
    with pytest.raises(OutputExistsError, match="exists already; pass -f to replace it or choose another path"):
        check_directory(path, overwrite=False, foreign=foreign, option="-f")
    with pytest.raises(OutputExistsError, match="not a directory, so"):
        check_directory(path / "mark", overwrite=True, foreign=foreign)


@posix
def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "part"
    path.touch()
    open_own_file(path, create=False).close()
    real = os.fstat

    def foreign(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        return os.stat_result([*status[:4], status.st_uid + 1, *status[5:]])

    monkeypatch.setattr(os, "fstat", foreign)
    with pytest.raises(OutputExistsError, match="a file of another user; move it away"):
        open_own_file(path, create=False)
