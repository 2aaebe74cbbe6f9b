from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.tables.sniffing import delimiter_of, format_of

WORD = st.text(st.characters(categories=["L", "N"], include_characters=" .\"'\n,;|\t"), min_size=1, max_size=8)
HEADER = st.text("abcdefgh_", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "csv"),
        ("a.JSONL", "jsonl"),
        ("a.ndjson.gz", "jsonl"),
        ("a.csv.gz", "csv"),
        ("jsonl", "csv"),
        ("-", "csv"),
    ],
)
def test_the_suffix_decides_the_format(name: str, expected: str) -> None:
    assert format_of(name) == expected


@given(st.data(), st.sampled_from([",", ";", "\t", "|"]), st.integers(2, 5), st.integers(0, 6))
def test_the_delimiter_of_any_csv_with_plain_names_is_detected(
    data: st.DataObject, delimiter: str, width: int, rows: int
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(data.draw(st.lists(HEADER, min_size=width, max_size=width)))
    writer.writerows(data.draw(st.lists(WORD, min_size=width, max_size=width)) for _ in range(rows))
    assert delimiter_of("pairs.csv", file.getvalue().encode(), "utf-8") == delimiter


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("id;frage;preis\n1;was, wie;2,50\n2;wo, wann;3,50\n", ";"),
        ('"a;b";c\n"1;2";3\n', ";"),
        ("a,b\nx; y; z,1\nu; v; w,2\n", ","),
        ("a,b\nragged\n1,2\n", ","),
        ("text\nhello, world\n", ","),
        ("", ","),
        ('a;b\n1;"an open quotation mark', ";"),
        ("a;b\n1;a record cut in the mid", ";"),
    ],
)
def test_the_first_records_decide_the_delimiter(head: str, expected: str) -> None:
    assert delimiter_of("x.csv", head.encode(), "utf-8") == expected


def test_the_first_records_are_decoded() -> None:
    assert delimiter_of("x.csv", "ä;b\nü;c\n".encode("utf-16"), "utf-16") == ";"
    assert delimiter_of("x.csv", "ä;b\nü;c\n".encode("cp1252"), "utf-8") == ";"


@pytest.mark.parametrize("name", ["x.tsv", "x.TSV.gz"])
def test_a_tsv_has_tabs_even_if_its_texts_contain_other_delimiters(name: str) -> None:
    assert delimiter_of(name, b"text\na,b\nc,d\n", "utf-8") == "\t"
