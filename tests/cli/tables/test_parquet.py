from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from flipkd_sdk.cli.tables import parquet  # noqa: E402
from flipkd_sdk.cli.tables.columns import Column  # noqa: E402
from flipkd_sdk.cli.tables.parquet import ParquetSink, ParquetSource  # noqa: E402
from flipkd_sdk.cli.tables.sources import TextColumn, refuse_row  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ADDED = (Column("score", "score"), Column("match", "flag"))
A = ["reset my password", "", "a card\nwas lost", "é"]
B = ["reset my password", "open an account", 'say "hi"', "  "]
TABLE = pa.table(
    {
        "id": pa.array([1, 2, 3, None], pa.int32()),
        "q": pa.array(A).dictionary_encode(),
        "when": [datetime.date(2024, 1, 2)] * 4,
        "price": [decimal.Decimal("1.50")] * 4,
        "tags": [["x"], [], None, ["y", "z"]],
        "f": pa.array(B, pa.large_string()),
    },
    metadata={"origin": "a test"},
)
TEXTS = (TextColumn("q", "--a-column"), TextColumn("f", "--b-column"))
COLUMNS = ["--a-column", "q", "--b-column", "f"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.parquet"
    pq.write_table(TABLE, path, row_group_size=3)
    return path


@pytest.fixture
def score(tiny_matcher: Path) -> Callable[..., Result]:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli, ["score", str(tiny_matcher), *map(str, arguments)])

    return run


@pytest.fixture(scope="module")
def expected(tiny_matcher: Path) -> list[float]:
    with Matcher.load(tiny_matcher) as matcher:
        found: list[float] = matcher.score_pairs(zip(A, B, strict=True)).tolist()
        return found


def test_rows_and_types_come_back_with_scores(
    score: Callable[..., Result], table: Path, tmp_path: Path, expected: list[float]
) -> None:
    out = tmp_path / "scored.parquet"
    done = score(table, *COLUMNS, "--out", out)
    assert (done.exit_code, done.stdout) == (0, "")
    scored = pq.read_table(out)
    assert scored.select(TABLE.column_names).equals(TABLE)
    assert scored.schema.metadata[b"origin"] == b"a test"
    assert scored.schema.types[-2:] == [pa.float32(), pa.bool_()]
    assert scored["score"].to_pylist() == expected
    assert scored["match"].to_pylist() == [value >= 0.5 for value in expected]


def test_columns_may_be_named_by_position(score: Callable[..., Result], table: Path, tmp_path: Path) -> None:
    assert score(table, *COLUMNS, "--out", tmp_path / "one.parquet").exit_code == 0
    assert score(table, "--a-column", "2", "--b-column", "6", "--out", tmp_path / "two.parquet").exit_code == 0
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_rows_are_selected(score: Callable[..., Result], table: Path, tmp_path: Path, expected: list[float]) -> None:
    assert score(table, *COLUMNS, "--out", tmp_path / "some.parquet", "--only-matches").exit_code == 0
    kept = pq.read_table(tmp_path / "some.parquet")
    assert kept["f"].to_pylist() == [b for b, value in zip(B, expected, strict=True) if value >= 0.5]
    assert 0 < len(kept) < 4


def test_parquet_is_written_as_text(
    score: Callable[..., Result], table: Path, tmp_path: Path, expected: list[float]
) -> None:
    assert score(table, *COLUMNS, "--out", tmp_path / "scored.csv").exit_code == 0
    with (tmp_path / "scored.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [*TABLE.column_names, "score", "match"]
    assert rows[1][:6] == ["1", A[0], '"2024-01-02"', '"1.50"', '["x"]', B[0]]
    assert rows[4][0] == ""
    assert [row[6] for row in rows[1:]] == [f"{value:.6f}" for value in expected]
    assert score(table, *COLUMNS, "--out", tmp_path / "scored.jsonl").exit_code == 0
    objects = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(item["id"], item["q"], item["tags"]) for item in objects] == [
        (i, q, tags) for i, q, tags in zip([1, 2, 3, None], A, [["x"], [], None, ["y", "z"]], strict=True)
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_text_is_written_as_parquet(
    score: Callable[..., Result], tmp_path: Path, suffix: str, expected: list[float]
) -> None:
    path = tmp_path / f"pairs.{suffix}"
    if suffix == "csv":
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=";").writerows([["q", "n", "f"], *zip(A, ["01", "2", "3", ""], B, strict=True)])
        path.write_text(file.getvalue(), encoding="utf-8", newline="")
    else:
        lines = [json.dumps({"q": a, "n": n, "f": b}) for a, n, b in zip(A, ["01", 2, [3], None], B, strict=True)]
        path.write_text("\n".join(lines), encoding="utf-8")
    assert score(path, *COLUMNS, "--out", tmp_path / "scored.parquet").exit_code == 0
    scored = pq.read_table(tmp_path / "scored.parquet")
    assert scored["q"].to_pylist() == A
    assert scored["n"].to_pylist() == (["01", "2", "3", ""] if suffix == "csv" else ["01", "2", "[3]", None])
    assert scored["score"].to_pylist() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--a-column", "absent", "--b-column", "f"], "pairs.parquet: no column 'absent'; the header has: 'id', 'q'"),
        (["--a-column", "id", "--b-column", "f"], "pairs.parquet: column 'id' contains int32; expected texts"),
        ([*COLUMNS, "--score-column", "id"], "a column 'id' already; name another with --score-column"),
    ],
)
def test_errors_name_the_column(
    score: Callable[..., Result], table: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = score(table, *options, "--out", tmp_path / "out.parquet")
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [table]


def test_standard_input_and_other_files_are_no_parquet(score: Callable[..., Result], tmp_path: Path) -> None:
    assert "standard input: Parquet is read from its end" in score("-", "--format", "parquet").stderr
    path = tmp_path / "text.parquet"
    path.write_text("text_a,text_b\n", encoding="utf-8")
    assert "text.parquet: not a readable Parquet file" in score(path).stderr
    assert "absent.parquet: no such file" in score(tmp_path / "absent.parquet").stderr


def test_a_broken_row_group_is_named_with_its_column(score: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    table = pa.table({"q": [str(i) * 50 for i in range(40)], "f": [f"text {i}" * 9 for i in range(40)]})
    pq.write_table(table, path, row_group_size=20, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(1).column(1)
    start, size = place.data_page_offset, place.total_compressed_size
    content[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(content)
    done = score(path, *COLUMNS)
    assert done.exit_code == 1
    assert "broken.parquet: row group 1, column 'f': cannot be read" in done.stderr


def test_missing_texts_stop_the_run_or_are_skipped(score: Callable[..., Result], tmp_path: Path) -> None:
    path, out = tmp_path / "pairs.parquet", tmp_path / "scored.parquet"
    table = pa.table({"n": [1, 2, 3, 4, 5], "q": ["a", None, "c", "d", None], "f": ["e", "f", None, "h", None]})
    pq.write_table(table, path, row_group_size=2)
    assert "pairs.parquet: row 2: column 'q': null; expected a text" in score(path, *COLUMNS, "--out", out).stderr
    done = score(path, *COLUMNS, "--out", out, "--on-error", "skip")
    assert done.exit_code == 0
    warning, summary = done.stderr.splitlines()
    assert warning == f"flipkd: warning: rows skipped: 3; {out}.rejects.jsonl contains them and the reasons"
    assert summary.startswith(f"flipkd: {out}: 2 rows, ")
    assert pq.read_table(out)["n"].to_pylist() == [1, 4]
    rejects = [json.loads(line) for line in (tmp_path / "scored.parquet.rejects.jsonl").read_text().splitlines()]
    assert [(reject["line"], reject["reason"].split(": ")[2]) for reject in rejects] == [
        (2, "column 'q'"),
        (3, "column 'f'"),
        (5, "column 'q'"),
    ]


VALUES = st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 7), st.integers(1, 5), st.integers(1, 9))
def test_any_table_comes_back_unchanged_plus_two_columns(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, groups: int, chunk: int, written: int
) -> None:
    folder = tmp_path_factory.mktemp("parquet")
    size = data.draw(st.integers(0, 12))
    columns: dict[str, Any] = {
        name: pa.array(data.draw(st.lists(values, min_size=size, max_size=size)), kind)
        for name, values, kind in [("q", TEXT, pa.string()), ("n", VALUES, pa.int64()), ("f", TEXT, pa.string())]
    }
    table = pa.table(columns)
    pq.write_table(table, folder / "in.parquet", row_group_size=groups)
    source = ParquetSource(str(folder / "in.parquet"), TEXTS, added=ADDED, reject=refuse_row)
    with pytest.MonkeyPatch.context() as patch, (folder / "out.parquet").open("wb") as stream:
        patch.setattr(parquet, "_GROUP_ROWS", written)
        patch.setattr(parquet, "_BATCH_ROWS", 2)
        sink = ParquetSink(stream, source.head, source.schema, added=ADDED)
        pairs = []
        while taken := source.take(chunk):
            assert len(taken.pairs) == len(taken.rows) <= chunk
            pairs += taken.pairs
            sink.write(taken.rows, ([0.25] * len(taken.pairs), [True] * len(taken.pairs)))
        sink.close()
    assert pairs == list(zip(columns["q"].to_pylist(), columns["f"].to_pylist(), strict=True))
    result = pq.read_table(folder / "out.parquet")
    assert result.drop_columns(["score", "match"]).equals(table)
    assert result["score"].to_pylist() == [0.25] * size
