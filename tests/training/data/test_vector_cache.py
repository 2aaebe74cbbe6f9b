from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from flipkd_sdk.errors import TrainingError
from flipkd_sdk.training.data.vector_cache import cached_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flipkd_sdk.training.models.teacher import Teacher


@dataclass
class FakeTeacher:
    revision: str = "0"
    max_length: int = 32
    pooling: str = "mean"
    shown: list[str] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return f"{self.revision} {self.pooling} {self.max_length}"

    def encode(self, texts: Sequence[str], *, progress: str | None = None) -> np.ndarray:
        self.shown += texts
        return np.stack([np.full(3, hash((text, self.revision)) % 1000, np.float32) for text in texts])


def vectors(teacher: FakeTeacher, texts: Sequence[str], directory: Path) -> np.ndarray:
    return cached_vectors(cast("Teacher", teacher), texts, directory)


def test_a_text_is_shown_to_a_teacher_once(tmp_path: Path) -> None:
    teacher = FakeTeacher()
    first = vectors(teacher, ["a", "b", "\ud800"], tmp_path / "new")
    assert teacher.shown == ["a", "b", "\ud800"]
    again = vectors(teacher, ["b", "", "a"], tmp_path / "new")
    assert teacher.shown == ["a", "b", "\ud800", ""]
    assert np.array_equal(again[[2, 0]], first[:2])
    assert np.array_equal(first, FakeTeacher().encode(["a", "b", "\ud800"]))
    assert again.dtype == np.float32


@pytest.mark.parametrize("other", [{"revision": "1"}, {"max_length": 64}, {"pooling": "cls"}])
def test_another_teacher_has_another_file(tmp_path: Path, other: dict[str, str]) -> None:
    vectors(FakeTeacher(), ["a"], tmp_path)
    teacher = FakeTeacher(**other)
    vectors(teacher, ["a"], tmp_path)
    assert teacher.shown == ["a"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_file_cut_short_is_made_again(tmp_path: Path, keep: float) -> None:
    expected = vectors(FakeTeacher(), ["a", "b"], tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    teacher = FakeTeacher()
    assert np.array_equal(vectors(teacher, ["a", "b"], tmp_path), expected)
    assert teacher.shown == ["a", "b"]
    vectors(teacher, ["a", "b"], tmp_path)
    assert teacher.shown == ["a", "b"]


def test_a_foreign_file_is_replaced_and_nothing_in_it_unpickled(tmp_path: Path) -> None:
    vectors(FakeTeacher(), ["a"], tmp_path)
    (file,) = tmp_path.iterdir()
    with file.open("wb") as stream:
        np.savez(stream, keys=np.array([b"k"], dtype=object), vectors=np.zeros((1, 3)))
    teacher = FakeTeacher()
    vectors(teacher, ["a"], tmp_path)
    assert teacher.shown == ["a"]


def test_the_file_of_another_teacher_is_refused(tmp_path: Path) -> None:
    vectors(FakeTeacher(), ["a"], tmp_path)
    (mine,) = tmp_path.iterdir()
    vectors(FakeTeacher(revision="1"), ["a"], tmp_path)
    (other,) = set(tmp_path.iterdir()) - {mine}
    other.write_bytes(mine.read_bytes())
    teacher = FakeTeacher(revision="1")
    with pytest.raises(TrainingError, match=f"{other}: contains the vectors of another teacher; remove it"):
        vectors(teacher, ["a"], tmp_path)
    assert teacher.shown == []


def test_no_working_file_is_left_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        vectors(FakeTeacher(), ["a"], tmp_path)
    assert not list(tmp_path.iterdir())
