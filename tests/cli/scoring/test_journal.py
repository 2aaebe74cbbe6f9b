from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipkd_sdk.cli.scoring.journal import Journal, ResumeError, digest

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = {"matcher": "1", "--a-column": "q"}
FRAMES = [([("a", "b"), ("c", "d")], [0.25, 0.5]), ([("e", "")], [1.0]), ([("f", "g")], [0.1])]


def write(path: Path, *, finish: bool = False) -> bytes:
    journal = Journal(path, IDENTITY)
    for pairs, scores in FRAMES:
        journal.append(pairs, np.array(scores, np.float32))
    if finish:
        journal.finish()
    journal.close()
    return path.read_bytes()


def replayed(journal: Journal) -> list[tuple[bytes, list[float]]]:
    return [(frame.digest, frame.scores.tolist()) for frame in journal.replay()]


EXPECTED = [(digest(pairs), np.array(scores, np.float32).tolist()) for pairs, scores in FRAMES]


def test_kept_scores_are_replayed(tmp_path: Path) -> None:
    path = tmp_path / "out.resume"
    write(path, finish=True)
    journal = Journal(path, IDENTITY)
    assert (journal.rows, journal.finished) == (4, True)
    assert replayed(journal) == EXPECTED
    journal.discard()
    assert not path.exists()


def test_nothing_is_created_before_there_are_scores(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.resume", IDENTITY)
    assert replayed(journal) == []
    journal.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_kill_at_any_byte_loses_the_last_frame_at_most(tmp_path: Path) -> None:
    path = tmp_path / "out.resume"
    whole = write(path, finish=True)
    before = 0
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        journal = Journal(path, IDENTITY)
        kept = replayed(journal)
        assert kept == EXPECTED[: len(kept)]
        assert len(kept) >= before
        assert journal.finished is (size == len(whole))
        before = len(kept)
        # What is appended then stands where the cut frame began.
        for pairs, scores in FRAMES[len(kept) :]:
            journal.append(pairs, np.array(scores, np.float32))
        journal.finish()
        journal.close()
        assert path.read_bytes() == whole
    assert before == len(FRAMES)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_frame_that_was_written_wrong_is_not_used(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "out.resume"
    whole = write(path)
    header = whole.index(b"\n") + 1
    place = header + place % (len(whole) - header)
    path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
    kept = replayed(Journal(path, IDENTITY))
    assert kept == EXPECTED[: len(kept)]
    assert len(kept) < len(EXPECTED)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"matcher": "2", "--a-column": "q"}, "had matcher '1', this one has '2'; repeat its options"),
        ({"matcher": "1", "--a-column": "f"}, "had --a-column 'q', this one has 'f'"),
        ({"matcher": "1"}, "had --a-column 'q', this one has None"),
    ],
)
def test_scores_of_another_run_are_refused_and_left_alone(tmp_path: Path, other: dict[str, str], message: str) -> None:
    path = tmp_path / "out.resume"
    whole = write(path)
    with pytest.raises(ResumeError, match=message):
        Journal(path, other)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"id,score\n1,2\n", b"\x00" * 200, b"[1]\n", b"{" * 100_000])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "out.resume"
    path.write_bytes(content)
    with pytest.raises(ResumeError, match="not a resume file of flipkd"):
        Journal(path, IDENTITY)
    assert path.read_bytes() == content


def test_different_pairs_have_different_digests() -> None:
    several = [[], [("a", "b")], [("b", "a")], [("ab", "")], [("a", "b"), ("", "")], [("a", "b\0c"), ("d", "\ud800")]]
    assert len({digest(pairs) for pairs in several}) == len(several)


def test_a_frame_that_claims_more_rows_than_the_file_contains_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.resume"
    whole = write(path)
    header = whole.index(b"\n") + 1
    path.write_bytes(whole[:header] + b"\xff\xff\xff\xff" + whole[header + 4 :])
    tracemalloc.start()
    try:
        assert replayed(Journal(path, IDENTITY)) == []
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
