"""The file of labels: nothing is lost but the pair on the screen, and nothing is written twice."""

from __future__ import annotations

import csv
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipkd_sdk.cli.labelling.label_file import LabelFile, Labelled
from flipkd_sdk.errors import InvalidPairsError, OutputExistsError
from flipkd_sdk.pairs import read_pairs

if TYPE_CHECKING:
    from pathlib import Path

FIRST = Labelled("reset my PIN", 'he said "no"\nand left', "1", "near", "0.500000")
SECOND = Labelled("a,b", "ü\r中", "0", "random", "0.900000")


def test_labels_are_read_again_and_by_training(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with LabelFile(path) as file:
        file.append(FIRST)
    with LabelFile(path) as file:
        assert file.labels == [FIRST]
        file.append(SECOND)
    with LabelFile(path) as file:
        assert file.labels == [FIRST, SECOND]
    pairs = read_pairs(path)
    assert list(pairs.label) == [1, 0]
    assert list(pairs.b) == [FIRST.text_b, SECOND.text_b]


def test_each_label_is_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with LabelFile(path) as file:
        for count in (1, 2):
            file.append(FIRST)
            with path.open(encoding="utf-8", newline="") as stream:
                assert len(list(csv.reader(stream))) == count + 1
        assert file.undo() == FIRST
        with path.open(encoding="utf-8", newline="") as stream:
            assert len(list(csv.reader(stream))) == 2


@pytest.mark.parametrize("lost", range(1, 62))
def test_what_a_killed_process_has_left_of_a_record_is_removed(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "labels.csv"
    with LabelFile(path) as file:
        file.append(SECOND)
        whole = path.read_bytes()
        file.append(FIRST)
    written = path.read_bytes()
    lost = min(lost, len(written) - len(whole))
    path.write_bytes(written[: len(written) - lost])
    with LabelFile(path) as file:
        assert file.labels == [SECOND]
        assert path.read_bytes() == whole
        file.append(FIRST)
    assert path.read_bytes() == written


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    kept = [(a, b) for a, b in pairs if "\0" not in a + b]
    with LabelFile(path) as file:
        for a, b in kept:
            file.append(Labelled(a, b, "1", "near", "0"))
    with LabelFile(path) as file:
        assert [(one.text_a, one.text_b) for one in file.labels] == kept


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_second_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    program = (
        "import pathlib, sys; from flipkd_sdk.cli.labelling.label_file import LabelFile; "
        "LabelFile(pathlib.Path(sys.argv[1]))"
    )
    with LabelFile(path):
        with pytest.raises(OutputExistsError, match="another 'flipkd label' is writing it"):
            LabelFile(path)
        done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
        assert "OutputExistsError" in done.stderr
    LabelFile(path).close()


@pytest.mark.parametrize("content", [b"text,label\na,1\n", b"text_a,text_b,label,chosen,score\na,b\n", b"\xff\xfe\n"])
def test_a_file_of_another_form_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidPairsError, match=r"record \d has other columns.*--out"):
        LabelFile(path)
    assert path.read_bytes() == content


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("", encoding="utf-8")
    (tmp_path / "labels.csv").symlink_to(tmp_path / "target")
    with pytest.raises(OutputExistsError):
        LabelFile(tmp_path / "labels.csv")
