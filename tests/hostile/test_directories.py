"""Matcher directories and candidates in which one file is not what it should be: refused at once, in one line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from tiny import TEXTS, add_self_test, write_tiny_matcher

from flipkd_sdk.artifact.manifest import MANIFEST_FILE, read_manifest
from flipkd_sdk.cli.main import cli
from flipkd_sdk.errors import CandidateSetError, MatcherDirectoryError
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.search.candidates import CandidateSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def absent(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def link(file: Path) -> None:
    shutil.move(file, file.with_suffix(".kept"))
    file.symlink_to(file.with_suffix(".kept"))


def dangling_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def circular_link(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def endless(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def listening(file: Path) -> None:
    file.unlink()
    before = Path.cwd()
    # The names of sockets are limited to 108 bytes.
    os.chdir(file.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(file.name)
    finally:
        os.chdir(before)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def sparse(file: Path) -> None:
    os.truncate(file, 1 << 40)


def zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def nested(file: Path) -> None:
    file.write_bytes(b"[" * file.stat().st_size)


KINDS = [
    absent, empty, link, dangling_link, circular_link, endless, fifo, folder, listening, cut, sparse, zeros, nested,
]  # fmt: skip
FILES = [MANIFEST_FILE, "tokenizer.json", "model_fp32.onnx", "self_test.json"]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_tiny_matcher(tmp_path_factory.mktemp("matchers") / "complete")
    add_self_test(path)
    return path


@pytest.fixture
def directory(complete: Path, tmp_path: Path) -> Path:
    return shutil.copytree(complete, tmp_path / "matcher")


@pytest.fixture(scope="module")
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, on_truncate="ignore") as opened:
        yield opened


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", KINDS)
def test_a_file_that_is_not_the_exported_one_is_refused(
    directory: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(directory / name)
    with pytest.raises(MatcherDirectoryError) as caught:
        Matcher.load(directory)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("command", ["inspect", "verify", "score"])
@pytest.mark.parametrize("damage", KINDS)
def test_commands_report_a_damaged_model_in_one_line(
    directory: Path, tmp_path: Path, command: str, damage: Callable[[Path], None]
) -> None:
    (tmp_path / "p.csv").write_text("text_a,text_b\na,b\n")
    damage(directory / "model_fp32.onnx")
    table = [str(tmp_path / "p.csv"), "--out", str(tmp_path / "out.csv")] if command == "score" else []
    done = CliRunner().invoke(cli, [command, str(directory), *table])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "model_fp32.onnx" in done.output
    assert done.stderr.count("flipkd: error: ") == 1
    assert not (tmp_path / "out.csv").exists()


NAMES = [
    "", ".", "..", "../weights.bin", "/etc/passwd", "a/b", "./tokenizer.json", "..\\weights.bin", "c:weights.bin",
    "a\nb", "a\0b", "\u202egnp.exe", "a" * 256, "é" * 128,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("entry", ["tokenizer", "variants", "self_test"])
def test_a_name_that_is_no_plain_file_name_is_refused(directory: Path, entry: str, name: str) -> None:
    content = json.loads((directory / MANIFEST_FILE).read_text())
    (content[entry]["fp32"] if entry == "variants" else content[entry])["file"] = name
    (directory / MANIFEST_FILE).write_text(json.dumps(content))
    with pytest.raises(MatcherDirectoryError, match="is not a plain file name") as caught:
        read_manifest(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["candidates.json", "texts.jsonl", "vectors.npy"])
@pytest.mark.parametrize("damage", KINDS)
@pytest.mark.parametrize("mmap", [False, True])
def test_candidates_that_are_not_the_saved_ones_are_refused(
    matcher: Matcher, tmp_path: Path, name: str, damage: Callable[[Path], None], mmap: bool
) -> None:
    path = tmp_path / "candidates"
    matcher.candidates(TEXTS).save(path)
    damage(path / name)
    with pytest.raises(CandidateSetError) as caught:
        CandidateSet.load(path, matcher, mmap=mmap)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
