from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.records import Records, read_records

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def records(content: str, *, encoding: str = "utf-8", **options: Any) -> Records:
    return read_records(io.BytesIO(content.encode(encoding)), "table", encoding=encoding, **options)


@given(st.data(), st.sampled_from([",", ";", "\t", "|"]), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_whatever_csv_writes_is_read_and_kept_as_it_stands(data: st.DataObject, delimiter: str, quoting: Any) -> None:
    width = data.draw(st.integers(1, 4))
    rows = data.draw(st.lists(st.lists(TEXT, min_size=width, max_size=width), max_size=6))
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
    names = [f"column {i}" for i in range(width)]
    writer.writerows([names, *rows])
    table = records(file.getvalue(), delimiter=delimiter)
    read = list(table.rows)
    assert table.columns == tuple(names)
    assert [list(record.cells.values()) for record in read] == rows
    assert table.header + "".join(record.raw for record in read) == file.getvalue()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_an_editor_counts_them(end: str) -> None:
    table = records(end.join(["a,b", "1,2", "", '"x', 'y",3', "4,5"]), encoding="utf-8")
    assert [(record.line, record.cells["b"]) for record in table.rows] == [(2, "2"), (4, "3"), (6, "5")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252", "utf-32"])
def test_other_encodings(encoding: str) -> None:
    table = records("text,é\nü,1\n", encoding=encoding)
    assert table.columns == ("text", "é")
    assert [record.raw for record in table.rows] == ["ü,1\n"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "ascii", "shift_jis"])
def test_undecodable_bytes_are_an_error_in_every_encoding(encoding: str) -> None:
    content = "a,b\n1,2\n".encode(encoding) + b"\xff"
    table = read_records(io.BytesIO(content), "table", encoding=encoding)
    with pytest.raises(InvalidPairsError, match=f"table:[123]: not {encoding} text"):
        list(table.rows)


def test_the_byte_order_mark_stays_with_the_header_and_out_of_the_name() -> None:
    table = records('\ufeff"a",b\n1,2\n')
    assert table.columns == ("a", "b")
    assert table.header == '\ufeff"a",b\n'


def test_a_name_goes_before_a_position() -> None:
    table = records("x,1,y\n")
    assert [table.column(wanted) for wanted in ("1", "2", "3", "y")] == ["1", "1", "y", "y"]
    for wanted in ("0", "4", "-1", "²", ""):
        with pytest.raises(InvalidPairsError, match="no column"):
            table.column(wanted)


@given(st.lists(st.dictionaries(TEXT, st.one_of(st.none(), st.integers(), TEXT), max_size=3), max_size=5))
def test_json_objects_are_read_and_kept_as_they_stand(objects: list[dict[str, object]]) -> None:
    content = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects)
    table = records(content, file_format="jsonl")
    read = list(table.rows)
    assert [record.cells for record in read] == objects
    assert "".join(record.raw for record in read) == content
    assert table.columns == tuple(objects[0] if objects else ())
