from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.pairs import Pairs, fold_numbers, read_pairs, read_texts, split_pairs, write_pairs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def made(rows: list[tuple[str, str, int]]) -> Pairs:
    return Pairs(tuple(a for a, _, _ in rows), tuple(b for _, b, _ in rows), np.array([y for _, _, y in rows], np.int8))


def rows_of(pairs: Pairs) -> list[tuple[str, str, int]]:
    return list(zip(pairs.a, pairs.b, pairs.label.tolist(), strict=True))


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str | bytes, name: str = "pairs.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_pairs_return_selected_pairs_and_distinct_texts() -> None:
    pairs = made([("a", "b", 1), ("b", "c", 0), ("a", "", 0)])
    assert len(pairs) == 3
    assert pairs.texts == ("a", "b", "c", "")
    assert rows_of(pairs.take(np.array([2, 0]))) == [("a", "", 0), ("a", "b", 1)]
    assert pairs.take([0]).label.dtype == np.int8
    assert len(pairs.take([])) == 0


def test_pairs_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(InvalidPairsError, match=r"found 1, 2 and labels of shape \(1,\)"):
        Pairs(("a",), ("b", "c"), np.array([1], np.int8))


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 1)), max_size=8))
@settings(deadline=None)
def test_written_pairs_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    rows = [*rows, ("x", "y", 0), ("x", "", 1)]
    write_pairs(made(rows), path)
    assert rows_of(read_pairs(path)) == rows


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 1)), max_size=8), st.booleans())
@settings(deadline=None)
def test_jsonl_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]], ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [*rows, ("x", "y", 0), ("x", "", 1)]
    lines = [json.dumps({"text_a": a, "text_b": b, "label": y}, ensure_ascii=ascii_only) for a, b, y in rows]
    path.write_text("\n\n".join(lines), encoding="utf-8")
    assert rows_of(read_pairs(path)) == rows


def test_byte_order_mark_crlf_blank_lines_and_blank_texts_are_read(file: Callable[..., Path]) -> None:
    path = file(b'\xef\xbb\xbf"text_a",text_b,label\r\n,"  ",1\r\n\r\n"two\r\nlines",\xc3\xa9,0\r\n\r\n')
    assert rows_of(read_pairs(path)) == [("", "  ", 1), ("two\r\nlines", "é", 0)]


def test_columns_are_found_by_name_and_position(file: Callable[..., Path]) -> None:
    path = file("id,q,label,other,other\n7,a,1,b,c\n8,d,0,e,f\n")
    assert rows_of(read_pairs(path, a_column="q", b_column="1")) == [("a", "7", 1), ("d", "8", 0)]
    with pytest.raises(InvalidPairsError, match="two columns are named 'other'"):
        read_pairs(path, a_column="q", b_column="other")
    with pytest.raises(InvalidPairsError, match="no column '6'"):
        read_pairs(path, a_column="q", b_column="6")


def test_tsv_is_tab_separated(file: Callable[..., Path]) -> None:
    assert len(read_pairs(file("text_a\ttext_b\tlabel\na,b\tc\t1\nd\te\t0\n", "pairs.tsv"))) == 2


HEAD = "text_a,text_b,label\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty; expected a header line"),
        ("\n\n", "empty; expected a header line"),
        (HEAD, "no pairs; expected at least one of each label"),
        ("text_a,text_c,label\na,b,1\n", "no column 'text_b'; the header has: 'text_a', 'text_c', 'label'"),
        ("text_a,text_b,text_b,label\na,b,c,1\n", "two columns are named 'text_b'"),
        (HEAD + "a,b,1\na,b\n", ":3: 2 fields, but the header has 3"),
        (HEAD + "a,b,1,\n", ":2: 4 fields, but the header has 3"),
        (HEAD + 'a,"b\nb\nb",1\na,b,2\n', ":5: column 'label': label \"2\"; expected 0 or 1"),
        (HEAD + 'a,"b\nb\nb",1\n\na,"b\nb"\n', ":6: 2 fields"),
        (HEAD + "a,b,0.0\n", ":2: column 'label': label \"0.0\""),
        (HEAD + "a,b,\n", ":2: column 'label': label \"\""),
        (HEAD + "a,b, 1\n", ":2: column 'label': label \" 1\""),
        (HEAD + "a,b,ja\n", ":2: column 'label': label \"ja\"; expected 0 or 1, no or yes, false or true"),
        (HEAD + 'a,b,1\na,"b"b,0\n', ":3: malformed CSV"),
        (HEAD + 'a,b,1\na,"b,0\na,b,1\n', ":3: malformed CSV"),
        (HEAD + "a,b,1\na,b,1\n", "all 2 pairs have label 1; add pairs of label 0"),
        (HEAD + "a,b,0\n", "all 1 pairs have label 0; add pairs of label 1"),
        (HEAD.encode() + b"a,b,1\na,\xff,0\n", ":3: not utf-8 text"),
        (HEAD.encode() + b"a,b,1\n\na,b\xc3", ":4: not utf-8 text"),
        (HEAD.encode() + b"a,b,1\na,\0,0\n", ":3: NUL character"),
        ("text_a,text_b,label\n".encode("utf-16"), ":1: "),
    ],
)
def test_bad_csv_is_refused_with_its_line(file: Callable[..., Path], content: str | bytes, message: str) -> None:
    path = file(content)
    with pytest.raises(InvalidPairsError) as caught:
        read_pairs(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text_a": "a", "text_b": "b"', ":3: not valid JSON"),
        ('{"text_a": ' + "[" * 100_000, ":3: not valid JSON"),
        ("[1, 2]", ":3: expected a JSON object"),
        ('"text"', ":3: expected a JSON object"),
        ('{"text_a": "a", "label": 1}', ":3: no key 'text_b'; the object has: 'text_a', 'label'"),
        ('{"text_a": "a", "text_b": null, "label": 1}', ":3: column 'text_b': expected a text in quotation marks"),
        (
            '{"text_a": 7, "text_b": "b", "label": 1}',
            ":3: column 'text_a': expected a text in quotation marks, found 7",
        ),
        ('{"text_a": "\\ud800", "text_b": "b", "label": 1}', ":3: column 'text_a': the text contains a NUL or half"),
        ('{"text_a": "\\u0000", "text_b": "b", "label": 1}', ":3: column 'text_a': the text contains a NUL or half"),
        ('{"text_a": "a", "text_b": "b", "label": "2"}', ":3: column 'label': label \"2\"; expected 0 or 1"),
        ('{"text_a": "a", "text_b": "b", "label": 2}', ":3: column 'label': label 2"),
        ('{"text_a": "a", "text_b": "b", "label": 1.0}', ":3: column 'label': label 1.0"),
        ('{"text_a": "a", "text_b": "b", "label": [1]}', ":3: column 'label': label [1]"),
        ('{"text_a": "a", "text_b": "b", "label": 1' + "0" * 5_000 + "}", ":3: not valid JSON"),
    ],
)
def test_bad_jsonl_is_refused_with_its_line(file: Callable[..., Path], line: str, message: str) -> None:
    path = file('{"text_a": "a", "text_b": "b", "label": 1}\n\n' + line + "\n", "pairs.jsonl")
    with pytest.raises(InvalidPairsError) as caught:
        read_pairs(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_directory_and_empty_jsonl_are_refused(tmp_path: Path, file: Callable[..., Path]) -> None:
    with pytest.raises(InvalidPairsError, match="no such file"):
        read_pairs(tmp_path / "missing.csv")
    with pytest.raises(InvalidPairsError, match="a directory"):
        read_pairs(tmp_path)
    with pytest.raises(InvalidPairsError, match="no pairs"):
        read_pairs(file("\n", "pairs.ndjson"))


def test_texts_are_read_from_txt_csv_and_jsonl(file: Callable[..., Path]) -> None:
    assert read_texts(file(b"\xef\xbb\xbfone\r\n\r\n two, \nthree", "t.txt")) == ["one", "", " two, ", "three"]
    assert read_texts(file('id,text\n1,"a\nb"\n2,\n', "t.csv")) == ["a\nb", ""]
    assert read_texts(file('{"q": "a"}\n{"q": ""}\n', "t.jsonl"), column="q") == ["a", ""]


@pytest.mark.parametrize(("name", "content"), [("t.txt", ""), ("t.csv", "text\n"), ("t.jsonl", "")])
def test_no_texts_are_refused(file: Callable[..., Path], name: str, content: str) -> None:
    with pytest.raises(InvalidPairsError, match="no texts; expected at least one"):
        read_texts(file(content, name))


def test_undecodable_txt_names_its_line(file: Callable[..., Path]) -> None:
    with pytest.raises(InvalidPairsError, match=r"t\.txt:2: not utf-8 text"):
        read_texts(file(b"a\n\xe9t\xe9\n", "t.txt"))


FEW_TEXTS = st.integers(0, 60).map("t{}".format)
LINKED = st.lists(st.tuples(FEW_TEXTS, FEW_TEXTS, st.integers(0, 1)), min_size=1, max_size=120)


@given(LINKED, st.integers(0, 3))
@settings(deadline=None)
def test_no_two_splits_share_a_text_and_no_pair_is_lost(rows: list[tuple[str, str, int]], seed: int) -> None:
    try:
        splits = split_pairs(made(rows), dev=0.2, test=0.2, seed=seed)
    except InvalidPairsError as error:
        assert "split would lack pairs of label 0 or 1" in str(error)
        return
    parts = [splits.train, splits.dev, splits.test]
    assert sorted(row for part in parts for row in rows_of(part)) == sorted(rows)
    texts = [set(part.texts) for part in parts]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert all(set(part.label.tolist()) == {0, 1} for part in parts)


def groups_of(sizes: list[int], *, share: float = 0.3) -> Pairs:
    rng = np.random.default_rng(5)
    return made(
        [(f"hub {g}", f"text {g} {i}", int(rng.random() < share)) for g, size in enumerate(sizes) for i in range(size)]
    )


def test_sizes_and_label_shares_are_near_the_fractions() -> None:
    pairs = groups_of([1 + i % 7 for i in range(400)])
    splits = split_pairs(pairs, dev=0.1, test=0.2)
    for part, fraction in ((splits.train, 0.7), (splits.dev, 0.1), (splits.test, 0.2)):
        assert abs(len(part) - fraction * len(pairs)) <= 2
        assert abs(part.label.mean() - pairs.label.mean()) < 0.01


def test_the_seed_decides_and_order_is_kept() -> None:
    pairs = groups_of([2] * 100)
    first, again, other = (split_pairs(pairs, seed=seed) for seed in (1, 1, 2))
    assert rows_of(first.dev) == rows_of(again.dev) and rows_of(first.test) == rows_of(again.test)
    assert rows_of(first.dev) != rows_of(other.dev)
    place = {row: i for i, row in enumerate(rows_of(pairs))}
    assert [place[row] for row in rows_of(first.train)] == sorted(place[row] for row in rows_of(first.train))


def test_the_largest_group_goes_to_train() -> None:
    splits = split_pairs(groups_of([300] + [2] * 60))
    assert "hub 0" in splits.train.texts


def test_a_split_of_fraction_zero_stays_empty() -> None:
    splits = split_pairs(groups_of([3] * 50), dev=0.2, test=0)
    assert len(splits.test) == 0
    assert len(splits.dev) == 30


def test_one_group_cannot_be_split() -> None:
    pairs = made([("a", "b", 1), ("b", "c", 0), ("c", "d", 1), ("d", "a", 0)])
    needed = "at least 3 groups with matches and 3 with non-matches are needed, found 1 and 1; add"
    with pytest.raises(
        InvalidPairsError, match=rf"4 pairs \(2 matches\) form 1 groups .* the largest of 4 pairs; {needed}"
    ):
        split_pairs(pairs)


@pytest.mark.parametrize(("dev", "test"), [(-0.1, 0.1), (0.5, 0.5), (float("nan"), 0.1)])
def test_impossible_fractions_are_refused(dev: float, test: float) -> None:
    with pytest.raises(ConfigError, match="split fractions"):
        split_pairs(groups_of([1] * 40), dev=dev, test=test)


def test_written_file_is_plain_csv(tmp_path: Path) -> None:
    write_pairs(made([('say "hi"', "a\rb", 1)]), tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == [["text_a", "text_b", "label"], ['say "hi"', "a\rb", "1"]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_teacher_scores_are_read_on_request_and_travel_with_their_pairs(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pairs{suffix}"
    names, rows = ("text_a", "text_b", "label", "mine"), [("a", "b", 1, 0.75), ("c", "d", 0, -1), ("e", "f", 1, 1)]
    if suffix == ".csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in (names, *rows)))
    else:
        path.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    assert read_pairs(path).teacher_score is None
    pairs = read_pairs(path, teacher_score_column="mine")
    assert pairs.teacher_score is not None
    assert pairs.teacher_score.tolist() == [0.75, -1.0, 1.0]
    write_pairs(pairs.take([1, 0]), tmp_path / "again.csv")
    again = read_pairs(tmp_path / "again.csv", teacher_score_column="teacher_score")
    assert again.teacher_score is not None
    assert (again.a, again.teacher_score.tolist()) == (("c", "a"), [-1.0, 0.75])


@pytest.mark.parametrize("score", ["", "high", "nan", "inf", "1.01", "-2"])
def test_a_teacher_score_that_is_none_is_named_by_line(tmp_path: Path, score: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(f"text_a,text_b,label,teacher_score\na,b,1,0.5\nc,d,0,{score}\n")
    with pytest.raises(InvalidPairsError, match=r"pairs.csv:3: column 'teacher_score': teacher score .*in \[-1, 1\]"):
        read_pairs(path, teacher_score_column="teacher_score")


@given(st.integers(2, 4), st.integers(0, 100))
@settings(deadline=None)
def test_no_text_is_in_two_folds_and_folds_are_of_about_one_size(folds: int, seed: int) -> None:
    # Chains of three pairs that share texts, with both labels in each.
    rows = [(f"a{n}", f"b{n}", 1) for n in range(12)]
    rows += [(f"b{n}", f"c{n}", 0) for n in range(12)] + [(f"c{n}", f"d{n}", 1) for n in range(12)]
    pairs = made(rows)
    fold = fold_numbers(pairs, folds, seed=seed)
    seen: dict[str, set[int]] = {}
    for a, b, number in zip(pairs.a, pairs.b, fold.tolist(), strict=True):
        seen.setdefault(a, set()).add(number)
        seen.setdefault(b, set()).add(number)
    assert all(len(numbers) == 1 for numbers in seen.values())
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.max() - sizes.min() <= 3
    assert fold_numbers(pairs, folds, seed=seed).tolist() == fold.tolist()


@pytest.mark.parametrize("rows", [[("a", "b", 1), ("b", "c", 0), ("d", "e", 1)], [("a", "b", 1), ("c", "d", 1)]])
def test_folds_need_groups_of_both_labels(rows: list[tuple[str, str, int]]) -> None:
    with pytest.raises(InvalidPairsError, match=r"fold \d of 2 would lack pairs of label 0 or 1"):
        fold_numbers(made(rows), 2)
