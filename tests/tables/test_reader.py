from __future__ import annotations

import csv
import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.decoding import PlainStream
from flipkd_sdk.tables.reader import BadRecord, Records, open_records, read_records

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def records(content: str, *, encoding: str = "utf-8", **options: Any) -> Records:
    return read_records(io.BytesIO(content.encode(encoding)), "table", encoding=encoding, **options)


@given(st.data(), st.sampled_from([",", ";", "\t", "|"]), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_any_csv_is_read_and_its_text_kept(data: st.DataObject, delimiter: str, quoting: Any) -> None:
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
def test_other_encodings_are_read(encoding: str) -> None:
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
def test_json_objects_are_read_and_their_text_kept(objects: list[dict[str, object]]) -> None:
    content = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects)
    table = records(content, file_format="jsonl")
    read = list(table.rows)
    assert [record.cells for record in read] == objects
    assert "".join(record.raw for record in read) == content
    assert table.columns == tuple(objects[0] if objects else ())


def test_without_a_header_columns_have_numbers() -> None:
    table = records("x,y\n1,2\n", header=False)
    assert (table.columns, table.header) == (("1", "2"), "")
    assert [record.raw for record in table.rows] == ["x,y\n", "1,2\n"]
    assert records("x,y\n", header=False).column("2") == "2"
    with pytest.raises(InvalidPairsError, match="table:2: 1 fields, but the first record has 2"):
        list(records("x,y\n1\n", header=False).rows)
    with pytest.raises(InvalidPairsError, match="empty; expected at least one record"):
        records("", header=False)


def skipping(content: bytes, **options: Any) -> tuple[list[str], list[BadRecord]]:
    bad: list[BadRecord] = []
    table = read_records(io.BytesIO(content), "table", on_bad_record=bad.append, **options)
    return [record.raw for record in table.rows], bad


def test_bad_records_of_csv_are_reported_and_reading_continues() -> None:
    content = b'a,b\n1,2\nragged\n\xff,4\n5,\0\n6,"x"y\n7,"8\n8"\n9,"open\n'
    good, bad = skipping(content)
    assert good == ["1,2\n", '7,"8\n8"\n']
    assert [(record.line, record.raw.encode("utf-8", "surrogateescape")) for record in bad] == [
        (3, b"ragged\n"),
        (4, b"\xff,4\n"),
        (5, b"5,\0\n"),
        (6, b'6,"x"y\n'),
        (9, b'9,"open\n'),
    ]
    found = [record.reason.partition(";")[0] for record in bad]
    assert found[:3] == [
        "table:3: 1 fields, but the header has 2",
        "table:4: not utf-8 text",
        "table:5: NUL character",
    ]
    assert all(
        reason.startswith(f"table:{line}: malformed CSV") for reason, line in zip(found[3:], (6, 9), strict=True)
    )


def test_bad_records_of_jsonl_are_reported_and_reading_continues() -> None:
    good, bad = skipping(b'{"a": 1}\n{"a": \n[1]\n\xff\n\n{"a": 2}', file_format="jsonl")
    assert good == ['{"a": 1}\n', '{"a": 2}']
    assert [record.line for record in bad] == [2, 3, 4]


def test_a_bad_header_is_never_skipped() -> None:
    with pytest.raises(InvalidPairsError, match="table:1: not utf-8 text"):
        skipping(b"a,\xff\n1,2\n")


def test_a_codec_that_cannot_continue_is_always_an_error() -> None:
    with pytest.raises(InvalidPairsError, match="not utf-16-le text"):
        skipping("a,b\n1,2\n".encode("utf-16-le") + b"\x00\xd8a\x00", encoding="utf-16-le")


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_no_line_is_lost(lines: list[bytes]) -> None:
    content = b"".join(line.replace(b"\n", b"").replace(b"\r", b"").replace(b'"', b"") + b"\n" for line in lines)
    good, bad = skipping(b"a,b\n" + content)
    whole = sorted(raw.encode("utf-8", "surrogateescape") for raw in (*good, *(record.raw for record in bad)))
    assert whole == sorted(line for line in content.splitlines(keepends=True) if line != b"\n")


def test_a_file_that_goes_away_is_named() -> None:
    stream = PlainStream(io.BufferedReader(Disappearing()), "far.csv")  # type: ignore[arg-type]
    with pytest.raises(InvalidPairsError, match=r"far.csv: cannot be read to its end .*Stale file handle"):
        list(read_records(stream, "far.csv").rows)


class Disappearing(io.RawIOBase):
    """A file on a network drive that is there for its first bytes only."""

    def __init__(self) -> None:
        self._served = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._served:
            raise OSError(116, "Stale file handle")
        self._served = True
        buffer[:8] = b"a,b\n1,2\n"
        return 8


@pytest.mark.parametrize("name", ["pairs.jsonl.gz", "pairs.csv"])
def test_gzipped_tables_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = '{"a": "x"}\n' if "jsonl" in name else "a;b\nx;y\n"
    path.write_bytes(gzip.compress(content.encode()))
    with open_records(path) as table:
        assert [record.cells["a"] for record in table.rows] == ["x"]
