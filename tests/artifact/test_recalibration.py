from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tiny import CALIBRATION, write_tiny_matcher

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.manifest import MANIFEST_FILE, Manifest, read_manifest
from flipkd_sdk.artifact.recalibration import with_calibration, write_copy, write_in_place
from flipkd_sdk.atomic import atomic_file
from flipkd_sdk.errors import MatcherDirectoryError, OutputExistsError

if TYPE_CHECKING:
    from pathlib import Path

NEW = replace(CALIBRATION, slope=9.0, threshold=0.25)
ADDED_LATER = ("self_test", "trimmed_vocabulary", "head", "familiarity", "profile")
FIGURES = {"accuracy": 0.8, "precision": 0.7, "recall": 0.9, "f1": 0.8, "calibration_error": 0.1, "roc_auc": 0.9}


@pytest.fixture
def matcher(tmp_path: Path) -> Path:
    return write_tiny_matcher(tmp_path / "matcher")


def changed(directory: Path, threshold: float = 0.25) -> Manifest:
    return with_calibration(read_manifest(directory), replace(NEW, threshold=threshold))


def test_figures_of_the_old_calibration_are_removed_and_others_kept(matcher: Path) -> None:
    manifest = replace(read_manifest(matcher), metrics={"test/fp32": {**FIGURES, "average_precision": 0.9}})
    assert with_calibration(manifest, NEW).metrics == {"test/fp32": {"roc_auc": 0.9, "average_precision": 0.9}}


def test_nothing_but_the_calibration_changes(matcher: Path) -> None:
    before, files = read_manifest(matcher), {p.name: p.read_bytes() for p in matcher.iterdir()}
    write_in_place(matcher, changed(matcher))
    assert read_manifest(matcher) == replace(before, calibration=NEW)
    assert {p.name: p.read_bytes() for p in matcher.iterdir() if p.name in files} == {
        **files,
        MANIFEST_FILE: changed(matcher).to_json().encode(),
    }
    with Matcher.load(matcher, device="cpu") as opened:
        assert opened.threshold == 0.25


def test_every_earlier_manifest_is_kept_once(matcher: Path) -> None:
    contents = []
    for threshold in (0.1, 0.2, 0.3):
        contents.append((matcher / MANIFEST_FILE).read_bytes())
        kept = write_in_place(matcher, changed(matcher, threshold))
        assert kept == matcher / f"manifest.{len(contents)}.json"
    (matcher / MANIFEST_FILE).write_bytes(contents[1])
    assert write_in_place(matcher, changed(matcher, 0.4)) == matcher / "manifest.2.json"
    assert [(matcher / f"manifest.{n}.json").read_bytes() for n in (1, 2, 3)] == contents
    assert not (matcher / "manifest.4.json").exists()


def test_the_same_manifest_writes_nothing(matcher: Path) -> None:
    write_in_place(matcher, changed(matcher))
    before = {p: p.stat().st_mtime_ns for p in matcher.iterdir()}
    assert write_in_place(matcher, changed(matcher)) is None
    assert {p: p.stat().st_mtime_ns for p in matcher.iterdir()} == before


def test_an_older_format_version_stays_what_it_is(matcher: Path) -> None:
    content = json.loads((matcher / MANIFEST_FILE).read_text())
    older = {key: value for key, value in content.items() if key not in ADDED_LATER}
    del older["calibration"]["search"]
    (matcher / MANIFEST_FILE).write_text(json.dumps({**older, "format_version": 1}))
    write_in_place(matcher, changed(matcher))
    assert read_manifest(matcher).format_version == 1
    assert read_manifest(matcher).calibration == NEW


def test_an_interrupted_write_leaves_the_manifest(matcher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (matcher / MANIFEST_FILE).read_bytes()
    manifest = changed(matcher)
    monkeypatch.setattr("flipkd_sdk.artifact.recalibration._keep", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_in_place(matcher, manifest)
    assert (matcher / MANIFEST_FILE).read_bytes() == before
    assert not list(matcher.glob(".*"))


def test_two_writers_do_not_mix(matcher: Path) -> None:
    entered, done = threading.Event(), threading.Event()

    def hold() -> None:
        with atomic_file(matcher / MANIFEST_FILE, exclusive=True) as file:
            entered.set()
            done.wait(30)
            file.write(changed(matcher, 0.9).to_json().encode())

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert entered.wait(30)
        with pytest.raises(OutputExistsError, match="another run is writing it"):
            write_in_place(matcher, changed(matcher))
    finally:
        done.set()
        other.join()
    assert read_manifest(matcher).calibration.threshold == 0.9


def test_nothing_is_written_through_a_link(matcher: Path, tmp_path: Path) -> None:
    (matcher / "manifest.1.json").symlink_to(tmp_path / "elsewhere")
    assert write_in_place(matcher, changed(matcher)) == matcher / "manifest.2.json"
    assert not (tmp_path / "elsewhere").exists()


def test_a_copy_is_a_matcher_of_its_own(matcher: Path, tmp_path: Path) -> None:
    (matcher / "README.md").write_text("card")
    write_in_place(matcher, changed(matcher, 0.1))
    before = {p.name: p.read_bytes() for p in matcher.iterdir()}
    write_copy(matcher, changed(matcher), tmp_path / "copy")
    assert {p.name: p.read_bytes() for p in matcher.iterdir()} == before
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == sorted(before.keys() - {"manifest.1.json"})
    assert read_manifest(tmp_path / "copy").calibration == NEW
    with Matcher.load(matcher, device="cpu") as one, Matcher.load(tmp_path / "copy", device="cpu") as other:
        assert (one.encode(["a card"]) == other.encode(["a card"])).all()


def test_a_copy_of_damaged_files_is_refused_and_leaves_nothing(matcher: Path, tmp_path: Path) -> None:
    (matcher / "model_fp32.onnx").write_bytes(b"other")
    with pytest.raises(MatcherDirectoryError, match="model_fp32"):
        write_copy(matcher, changed(matcher), tmp_path / "copy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["matcher"]


def test_a_copy_replaces_nothing(matcher: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="copy: exists already"):
        write_copy(matcher, changed(matcher), tmp_path / "copy")
    assert [p.name for p in (tmp_path / "copy").iterdir()] == ["notes.txt"]
