"""Files made by hypothesis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pyarrow as pa
from fuzz.mutation import encode_field
from fuzz.valid import COLUMNS, parquet_of

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*COLUMNS, "x"]) | TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    cell = st.sampled_from(["0", "1", "yes", "a", "=1", '""', '"', "\ufeff", "sep=;", ""]) | TEXT
    quoted = cell.map(lambda text: f'"{text}"')
    rows = draw(st.lists(st.lists(cell | quoted, min_size=4, max_size=6).map(delimiter.join), max_size=6))
    header = delimiter.join(draw(st.permutations(COLUMNS)))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252", "gb18030"]))
    return end.join([header, *rows]).encode(encoding, "replace")


def json_lines(values: SearchStrategy[object]) -> SearchStrategy[bytes]:
    objects = st.dictionaries(st.sampled_from(COLUMNS), TEXT | values, min_size=1, max_size=5)
    lines = st.lists(objects | values, max_size=5)
    return lines.map(lambda found: b"".join(json.dumps(value).encode() + b"\n" for value in found))


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    rows = draw(st.integers(0, 6))
    kinds = [
        (pa.string(), TEXT), (pa.large_string(), TEXT), (pa.binary(), st.binary(max_size=5)), (pa.null(), st.none()),
        (pa.int64(), st.integers(-9, 9)), (pa.bool_(), st.booleans()), (pa.string_view(), TEXT),
        (pa.list_(pa.string()), st.lists(TEXT, max_size=2)), (pa.dictionary(pa.int32(), pa.string()), TEXT),
        (pa.struct([("x", pa.string())]), st.fixed_dictionaries({"x": TEXT})), (pa.float32(), st.floats(width=32)),
        (pa.duration("s"), st.integers(0, 99)), (pa.list_(pa.string_view()), st.lists(TEXT, max_size=2)),
    ]  # fmt: skip
    fields, columns = [], []
    names = draw(st.lists(st.sampled_from([*COLUMNS, "score", "match", ""]) | TEXT, max_size=3))
    for name in ["text_a", "text_b", *names]:
        kind, values = draw(st.sampled_from(kinds[:2] * 4 + kinds))
        columns.append(pa.array(draw(st.lists(values | st.none(), min_size=rows, max_size=rows)), kind))
        fields.append(pa.field(name, kind))
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    try:
        return parquet_of(table, compression=draw(st.sampled_from(["none", "snappy"])), row_group_size=2)
    except (pa.ArrowException, OSError):
        return parquet_of(pa.table({"text_a": ["a"]}))


MESSAGES = st.recursive(
    st.binary(max_size=12) | st.sampled_from([b"location", b"weights.bin", b"sentence_embedding"]),
    lambda inner: st.lists(
        st.builds(
            encode_field,
            st.sampled_from([1, 2, 3, 5, 6, 7, 8, 10, 11, 13, 14, 15, 20, 22, 23, 25]),
            st.just(2),
            inner,
        )
        | st.builds(encode_field, st.integers(1, 30), st.just(0), st.sampled_from([b"\0", b"\1", b"\xff\1"])),
        max_size=6,
    ).map(b"".join),
    max_leaves=20,
)
JSON_FILES = JSON_VALUES.map(lambda value: json.dumps(value).encode())
