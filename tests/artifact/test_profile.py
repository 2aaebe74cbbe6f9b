from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from flipkd_sdk.artifact.profile import (
    MAX_BYTES,
    known_pieces,
    make_profile,
    read_profile,
    unknown_share,
    write_profile,
)
from flipkd_sdk.errors import MatcherDirectoryError
from flipkd_sdk.evaluation.drift import histogram

if TYPE_CHECKING:
    from pathlib import Path

HISTOGRAMS = {"score": histogram(np.linspace(-4, 4, 100)), "length": histogram(np.arange(1, 60))}
PROFILE = make_profile(known_pieces([0, 3, 9, 40]), HISTOGRAMS)


def test_a_profile_is_read_as_it_was_written_and_the_same_one_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_profile(tmp_path / name, PROFILE)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    read = read_profile(tmp_path / "one")
    assert list(read.histograms) == ["score", "length"]
    for name, made in HISTOGRAMS.items():
        assert np.array_equal(read.histograms[name].edges, made.edges)
        assert np.array_equal(read.histograms[name].counts, made.counts)
    assert np.array_equal(read.known, PROFILE.known)


def test_pieces_that_no_training_text_contains_are_unknown() -> None:
    known = PROFILE.known
    for ids, share in (([0, 3, 9, 40], 0), ([0, 1], 0.5), ([41, 47, 48, 1 << 31], 1), ([40, 40, 4], 1 / 3)):
        assert unknown_share(known, np.array(ids, np.uint32)) == pytest.approx(share)
    assert unknown_share(known_pieces([]), np.array([0, 5], np.uint32)) == 1


def npz(**changed: np.ndarray) -> bytes:
    stream = io.BytesIO()
    names = PROFILE.__dataclass_fields__
    np.savez(stream, **{**{name: getattr(PROFILE, name) for name in names}, **changed})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a zip file"),
        (npz()[:-20], "not a zip file"),
        (npz(known=np.array([1.0])), "known pieces that are not bits"),
        (npz(score_edges=np.array([1.0])), "shapes"),
        (npz(score_counts=np.zeros_like(PROFILE.score_counts)), "counts that are negative, all 0"),
        (npz(score_edges=PROFILE.score_edges[::-1].copy()), "edges that do not rise"),
        (npz(score_edges=np.full_like(PROFILE.score_edges, np.nan)), "edges that do not rise"),
        (npz(length_counts=PROFILE.length_counts.astype(np.float32)), "counts that are not int64"),
        (npz(other=np.zeros(1)), "other arrays than expected"),
        (npz(known=np.zeros(MAX_BYTES, np.uint8)), "larger than"),
        (npz(known=np.array([{}], object)), "allow_pickle"),
    ],
)
def test_a_malformed_profile_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "profile.npz"
    path.write_bytes(content)
    with pytest.raises(MatcherDirectoryError, match=reason) as raised:
        read_profile(path)
    assert str(raised.value).startswith(f"{path}: not the profile of this matcher (")
    assert "\n" not in str(raised.value)


def test_a_profile_without_a_histogram_is_refused() -> None:
    with pytest.raises(ValueError, match="no histogram"):
        make_profile(known_pieces([1]), {})


def test_a_small_archive_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "profile.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in PROFILE.__dataclass_fields__:
            archive.writestr(f"{name}.npy", bytes(1 << 20))
    with pytest.raises(MatcherDirectoryError, match="other arrays than expected"):
        read_profile(path)
