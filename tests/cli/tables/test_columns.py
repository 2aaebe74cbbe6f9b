from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.cli.tables.columns import Column, ColumnAdder, Head, Layout, TextFormat, TextSink, layout_for
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.reader import Records, read_records

if TYPE_CHECKING:
    from flipkd_sdk.tables.sniffing import Format

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
CSV = Layout("csv", ",")
JSONL = Layout("jsonl", "")


def table(content: str, file_format: Format = "csv", delimiter: str = ",") -> Records:
    return read_records(io.BytesIO(content.encode()), "table", file_format=file_format, delimiter=delimiter)


ADDED = (Column("score", "score", "--score-column"), Column("match", "flag", "--match-column"))


def scored(records: Records, layout: Layout) -> str:
    adder = ColumnAdder(Head.of(records), layout, added=ADDED)
    return adder.header() + "".join(adder.row(record, (0.25, False)) for record in records.rows)


def written(rows: list[list[str]], **dialect: Any) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, **dialect).writerows(rows)
    return file.getvalue()


def parsed(content: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True))


@st.composite
def any_table(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(TEXT, min_size=width, max_size=width), max_size=5))
    return [[f"column {i}" for i in range(width)], *rows]


QUOTING = st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC])


@given(any_table(), st.sampled_from([",", ";", "\t"]), QUOTING, st.booleans())
def test_csv_comes_back_byte_for_byte(rows: list[list[str]], delimiter: str, quoting: Any, complete: bool) -> None:
    content = written(rows, delimiter=delimiter, quoting=quoting)
    content = content if complete or len(rows) == 1 else content.removesuffix("\r\n")
    records = table(content, delimiter=delimiter)
    own = [records.header, *(record.raw for record in records.rows)]
    assert "".join(own) == content
    added = [f"{delimiter}score{delimiter}match", *([f"{delimiter}0.250000{delimiter}0"] * (len(own) - 1))]
    expected = "".join(a.removesuffix("\r\n") + b + "\r\n" for a, b in zip(own, added, strict=True))
    result = scored(table(content, delimiter=delimiter), Layout("csv", delimiter))
    assert result == expected
    assert [row[:-2] for row in parsed(result, delimiter)] == rows


@given(any_table(), st.sampled_from([CSV, Layout("csv", "\t"), JSONL]))
def test_csv_in_another_layout_has_the_same_values(rows: list[list[str]], layout: Layout) -> None:
    result = scored(table(written(rows, delimiter=";"), delimiter=";"), layout)
    names = rows[0]
    if layout == JSONL:
        expected = [dict(zip(names, row, strict=True)) | {"score": 0.25, "match": 0} for row in rows[1:]]
        assert [json.loads(line) for line in result.split("\n")[:-1]] == expected
    else:
        assert parsed(result, layout.delimiter) == [
            [*names, "score", "match"],
            *([*row, "0.250000", "0"] for row in rows[1:]),
        ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"a":"x","n":1.50e3}\n', '{"a":"x","n":1.50e3, "score": 0.250000, "match": 0}\n'),
        (' { "a" : "}" } \r\n', '{ "a" : "}", "score": 0.250000, "match": 0}\r\n'),
        ('{"a": "\\u00e9", "big": 12345678901234567890123}', None),
        ('{"a": {"b": [1, {}]}}', '{"a": {"b": [1, {}]}, "score": 0.250000, "match": 0}\n'),
    ],
)
def test_jsonl_comes_back_unchanged(line: str, expected: str | None) -> None:
    result = scored(table(line, "jsonl"), JSONL)
    assert result.strip() == (expected or line[:-1] + ', "score": 0.250000, "match": 0}').strip()
    assert json.loads(result) == json.loads(line) | {"score": 0.25, "match": 0}


def test_jsonl_is_written_as_csv() -> None:
    content = '{"a": "x,y", "n": 1.5, "l": [1, "é"]}\n{"l": null, "a": "\\r"}\n'
    result = scored(table(content, "jsonl"), CSV)
    assert parsed(result) == [
        ["a", "n", "l", "score", "match"],
        ["x,y", "1.5", '[1, "é"]', "0.250000", "0"],
        ["\r", "", "", "0.250000", "0"],
    ]


def test_jsonl_with_a_new_key_does_not_fit_csv() -> None:
    with pytest.raises(InvalidPairsError, match="table:2: key 'b' is not in the first object"):
        scored(table('{"a": 1}\n{"b": 1}\n', "jsonl"), CSV)


def test_columns_of_the_same_name_need_the_layout_of_the_input() -> None:
    assert scored(table("a,x,x\n1,2,3\n"), CSV) == "a,x,x,score,match\n1,2,3,0.250000,0\n"
    for layout in (JSONL, Layout("csv", "\t")):
        with pytest.raises(InvalidPairsError, match="two columns have the same name"):
            scored(table("a,x,x\n1,2,3\n"), layout)


@pytest.mark.parametrize("layout", [CSV, JSONL])
def test_an_existing_column_is_not_doubled(layout: Layout) -> None:
    with pytest.raises(InvalidPairsError, match=r"table: the table has a column 'match' already; .* --match-"):
        scored(table("a,match\n1,2\n"), layout)
    with pytest.raises(InvalidPairsError, match=r"table: the table has a column 'score' already; .* --score-column"):
        scored(table('{"a": 1, "score": 2}\n', "jsonl"), layout)


def test_new_names_are_quoted_if_necessary() -> None:
    records = table("a;b\n1;2\n", delimiter=";")
    header = ColumnAdder(
        Head.of(records), Layout("csv", ";"), added=(Column("p; q", "score"), Column('"m"', "flag"))
    ).header()
    assert header == 'a;b;"p; q";"""m"""\n'


@pytest.mark.parametrize(
    ("path", "file_format", "expected"),
    [
        ("-", "csv", Layout("csv", ";")),
        ("x.csv", "csv", Layout("csv", ";")),
        ("x.tsv", "csv", Layout("csv", "\t")),
        ("x.JSONL", "csv", JSONL),
        ("x", "csv", Layout("csv", ";")),
        ("-", "jsonl", JSONL),
        ("x.out", "jsonl", JSONL),
        ("x.csv", "jsonl", CSV),
        ("x.tsv.gz", "jsonl", Layout("csv", "\t")),
        ("x.ndjson.gz", "csv", JSONL),
        ("x.gz", "csv", Layout("csv", ";")),
        ("x.parquet", "csv", Layout("parquet", "")),
    ],
)
def test_the_layout_follows_the_suffix_else_the_input(path: str, file_format: Format, expected: Layout) -> None:
    content = "a;b\n" if file_format == "csv" else '{"a": 1}\n'
    assert layout_for(path, Head.of(table(content, file_format, ";")).layout) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "iso2022_jp"])
def test_text_is_encoded_as_one_stream(encoding: str) -> None:
    records = table('{"a": "\u65e5\u672c"}\n{"a": "\u672c"}\n', "jsonl")
    stream = io.BytesIO()
    sink = TextSink(stream, ColumnAdder(Head.of(records), JSONL, added=ADDED), encoding)
    for record in records.rows:
        sink.write([record], ([0.5], [True]))
    sink.close()
    lines = [json.loads(line) for line in stream.getvalue().decode(encoding).splitlines()]
    assert [line["a"] for line in lines] == ["\u65e5\u672c", "\u672c"]


def test_a_table_without_a_header_gets_none() -> None:
    records = read_records(io.BytesIO(b"x;y\n1;2\n"), "table", delimiter=";", header=False)
    assert scored(records, Layout("csv", ";")) == "x;y;0.250000;0\n1;2;0.250000;0\n"


def test_scores_have_the_chosen_format() -> None:
    records = table("a\nx\n")
    adder = ColumnAdder(Head.of(records), CSV, added=ADDED, form=TextFormat(float_format=".3g"))
    assert [adder.row(record, (0.123456, True)) for record in records.rows] == ["x,0.123,1\n"]
