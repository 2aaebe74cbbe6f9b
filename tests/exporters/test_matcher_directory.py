from __future__ import annotations

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest

from flipkd_sdk.artifact.manifest import read_manifest
from flipkd_sdk.errors import OutputExistsError
from flipkd_sdk.exporters.directory.publishing import publishing


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def old(tiny_matcher: Path, tmp_path: Path) -> Path:
    """A matcher directory, alone in its parent."""
    return shutil.copytree(tiny_matcher, tmp_path / "here" / "matcher")


def test_the_directory_appears_at_the_end_under_its_name(tmp_path: Path) -> None:
    out = tmp_path / "new" / "deep" / "matcher"
    with publishing(out, overwrite=False) as working:
        (working / "file").write_text("content")
        assert not out.parent.exists()
        assert working.parent == tmp_path
    assert names(out) == ["file"]
    assert names(tmp_path) == ["new"]


def test_it_has_the_permissions_that_the_user_gives_to_directories(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    with publishing(tmp_path / "out", overwrite=False):
        pass
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_relative_name_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with publishing(Path("matcher"), overwrite=False) as working:
        (working / "file").touch()
    assert names(tmp_path / "matcher") == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with publishing(tmp_path / "new" / "matcher", overwrite=False) as working:
            (working / "file").write_text("content")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


def test_an_empty_directory_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "matcher").mkdir()
    with publishing(tmp_path / "matcher", overwrite=False) as working:
        (working / "file").touch()
    assert names(tmp_path / "matcher") == ["file"]
    assert names(tmp_path) == ["matcher"]


def refused(out: Path, *, overwrite: bool) -> str:
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(OutputExistsError) as caught, publishing(out, overwrite=overwrite):
        pytest.fail("the export went on")
    assert sorted(out.parent.rglob("*")) == before
    return str(caught.value)


def test_nothing_is_replaced_unasked(old: Path) -> None:
    assert (
        refused(old, overwrite=False) == f"{old}: exists already; pass --overwrite to replace it or choose another path"
    )


def test_a_matcher_is_replaced_when_asked(old: Path) -> None:
    with publishing(old, overwrite=True) as working:
        (working / "file").touch()
        assert "manifest.json" in names(old), "the old one serves until the end"
    assert names(old) == ["file"]
    assert names(old.parent) == ["matcher"]


def test_manifests_of_earlier_calibrations_are_replaced_too(old: Path) -> None:
    (old / "manifest.12.json").touch()
    with publishing(old, overwrite=True) as working:
        (working / "file").touch()
    assert names(old) == ["file"]


def test_a_failure_leaves_the_old_matcher(old: Path) -> None:
    before = read_manifest(old)
    with pytest.raises(ValueError, match="stop"), publishing(old, overwrite=True):
        raise ValueError("stop")
    assert read_manifest(old) == before
    assert names(old.parent) == ["matcher"]


def test_the_old_matcher_comes_back_if_the_new_one_cannot_take_its_place(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if target == old and not self.name.endswith(".old"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return rename(self, target)

    before = read_manifest(old)
    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(PermissionError) as caught, publishing(old, overwrite=True):
        pass
    assert caught.value.filename == str(old)
    assert read_manifest(old) == before
    assert names(old.parent) == ["matcher"]


def test_overwrite_touches_nothing_but_matchers(old: Path) -> None:
    file = old.parent / "file"
    file.write_text("mine")
    link = old.parent / "link"
    link.symlink_to(old)
    dangling = old.parent / "dangling"
    dangling.symlink_to(old.parent / "absent")
    for out, reason in ((file, "not a directory"), (link, "a link"), (dangling, "not a directory")):
        assert refused(out, overwrite=True).startswith(f"{out}: {reason}, so --overwrite does not replace it; ")
    extension = old.parent / "extension"
    extension.mkdir()
    (extension / "manifest.json").write_text('{"manifest_version": 3}')
    assert "not a matcher directory (" in refused(extension, overwrite=True)
    (extension / "manifest.json").unlink()
    (extension / "other").touch()
    assert "not a matcher directory (" in refused(extension, overwrite=True)


def test_a_matcher_with_the_users_files_in_it_is_not_replaced(old: Path) -> None:
    (old / "README.md").touch()
    (old / "notes.txt").touch()
    message = refused(old, overwrite=True)
    assert message.startswith(
        f"{old}: contains 'notes.txt', which is not part of a matcher, so --overwrite does not replace"
    )


def test_what_appeared_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "matcher"

    def race() -> None:
        with publishing(out, overwrite=False):
            out.mkdir()
            (out / "theirs").touch()

    with pytest.raises(OutputExistsError, match="exists already"):
        race()
    assert names(out) == ["theirs"]
    assert names(tmp_path) == ["matcher"]


def test_an_output_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "matcher"
    with pytest.raises(NotADirectoryError) as caught, publishing(out, overwrite=False):
        pytest.fail("the export went on")
    assert caught.value.filename == str(out)
    assert names(tmp_path) == ["file"]


def test_a_full_disk_names_the_output_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with (
            pytest.raises(OSError, match="cannot be written: File too large") as caught,
            publishing(tmp_path / "matcher", overwrite=False) as working,
        ):
            (working / "file").write_bytes(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "matcher")
    assert caught.value.errno == errno.EFBIG
    assert names(tmp_path) == []


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, publishing(tmp_path / "matcher", overwrite=False):
        (tmp_path / "absent").read_bytes()
    assert caught.value.filename == str(tmp_path / "absent")
