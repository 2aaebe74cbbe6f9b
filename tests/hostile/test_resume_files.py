"""Resume files that no run has written: refused in one line, or read as far as their checksums go."""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flipkd_sdk.cli.main import cli
from flipkd_sdk.cli.scoring.journal import Journal
from flipkd_sdk.cli.scoring.local_engine import identity_of
from flipkd_sdk.runtimes.matcher import Matcher

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = [("card", "pin"), ("fee", "limit")]


@pytest.fixture(scope="module")
def begun(tiny_matcher: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The resume file of a run that has scored one of two rows."""
    path = tmp_path_factory.mktemp("resume") / "out.csv.resume"
    with Matcher.load(tiny_matcher) as matcher:
        journal = Journal(path, {**identity_of(matcher, "zero"), "--a-column": "text_a", "--b-column": "text_b"})
        journal.append(PAIRS[:1], matcher.score_pairs(PAIRS[:1]))
    journal.close()
    return path.read_bytes()


def resumed(tiny_matcher: Path, tmp_path: Path, state: bytes) -> Result:
    (tmp_path / "p.csv").write_text("text_a,text_b\n" + "".join(f"{a},{b}\n" for a, b in PAIRS))
    (tmp_path / "out.csv.resume").write_bytes(state)
    out = str(tmp_path / "out.csv")
    return CliRunner().invoke(cli, ["score", str(tiny_matcher), str(tmp_path / "p.csv"), "--out", out, "--resume"])


FOREIGN = {
    "another program's file": b"precious\n", "one long line": b"a" * 100_000, "a list": b"[1]\n", "zeros": bytes(5000),
    "nested lists": b"[" * 50_000 + b"\n", "nested objects": b'{"a":' * 10_000 + b"\n", "not UTF-8": b'{"\xff": 1}\n',
    "a list of keys": b'[["flipkd resume file", "1"]]\n', "another version": b'{"flipkd resume file": "2"}\n',
    "a long number": b"9" * 5000 + b"\n", "keys that are lists": b"[[[], 1]]\n", "a text": b'"ab"\n', "null": b"null\n",
    "no identity": b'{"flipkd resume file": "1"}\n', "UTF-16": '{"flipkd resume file": "1"}\n'.encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_resume_file_is_refused_and_left_alone(tiny_matcher: Path, tmp_path: Path, kind: str) -> None:
    done = resumed(tiny_matcher, tmp_path, FOREIGN[kind])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.startswith("flipkd: error: ") and done.stderr.count("\n") == 1
    assert "out.csv.resume: " in done.stderr
    assert (tmp_path / "out.csv.resume").read_bytes() == FOREIGN[kind]
    assert not (tmp_path / "out.csv").exists()


def frame(rows: int, content: bytes, texts: bytes = bytes(16)) -> bytes:
    return struct.pack("<II16s", rows, zlib.crc32(texts + content), texts) + content


TAILS = {
    "nothing": b"", "a byte": b"\0", "a frame that claims 4 billion rows": frame((1 << 32) - 1, b""),
    "a frame that claims a million rows": frame(1_000_000, bytes(40)), "zeros": bytes(10_000),
    "a wrong checksum": struct.pack("<II16s", 1, 7, bytes(16)) + bytes(4), "half a frame": frame(2, bytes(8))[:-3],
    "the begin of another file": b'{"flipkd resume file": "1"}\n', "a megabyte of noise": b"\xa5" * (1 << 20),
}  # fmt: skip


@pytest.mark.parametrize("tail", TAILS)
def test_damage_behind_the_last_whole_frame_changes_nothing(
    tiny_matcher: Path, tmp_path: Path, begun: bytes, tail: str
) -> None:
    done = resumed(tiny_matcher, tmp_path, begun + TAILS[tail])
    assert done.exit_code == 0, done.output
    with Matcher.load(tiny_matcher) as matcher:
        expected = matcher.score_pairs(PAIRS)
    rows = (tmp_path / "out.csv").read_text().splitlines()[1:]
    np.testing.assert_allclose([float(row.split(",")[2]) for row in rows], expected, atol=1e-6)
    assert not (tmp_path / "out.csv.resume").exists()


def test_scores_of_other_texts_are_refused(tiny_matcher: Path, tmp_path: Path, begun: bytes) -> None:
    done = resumed(tiny_matcher, tmp_path, begun + frame(1, np.float32(1).tobytes()))
    assert done.exit_code == 1
    assert "rows 2 to 2 are not those that the run which stopped has scored" in done.stderr


@pytest.mark.parametrize("key", ["precision", "device", "matcher", "calibration", "--a-column"])
@pytest.mark.parametrize("value", [None, 1, [], {"a": 1}, "x" * 1000])
def test_a_run_with_another_identity_is_refused(
    tiny_matcher: Path, tmp_path: Path, begun: bytes, key: str, value: object
) -> None:
    header, _, frames = begun.partition(b"\n")
    changed = json.dumps({**json.loads(header), key: value}).encode() + b"\n" + frames
    done = resumed(tiny_matcher, tmp_path, changed)
    assert done.exit_code == 1
    assert f"the run that stopped had {key} " in done.stderr and done.stderr.count("\n") == 1
