from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from flipkd_sdk import Matcher
from flipkd_sdk.cli.engines import LocalEngine
from flipkd_sdk.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FLIPKD = [sys.executable, "-c", "from flipkd_sdk.cli.main import run; run()"]

ROWS = [
    ("reset my password", "reset my password"),
    ("", "open an account, please"),
    ("a card\nwas lost", 'say "hi"'),
    ("reset my password", "a card"),
    ("é", "  "),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text_a", "text_b"])
        writer.writerows((f"00{i}", a, b) for i, (a, b) in enumerate(ROWS))
    return path


@pytest.fixture
def score(tiny_matcher: Path) -> Callable[..., Result]:
    def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(cli, ["score", str(tiny_matcher), *map(str, arguments)], input=stdin)

    return run


@pytest.fixture
def expected(tiny_matcher: Path) -> list[tuple[str, str]]:
    with Matcher.load(tiny_matcher) as matcher:
        scores = matcher.score_pairs(ROWS).tolist()
        return [(f"{score:.6f}", str(int(score >= matcher.threshold))) for score in scores]


def parsed(content: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content, newline="")))


def failure(done: Result) -> str:
    assert done.exit_code == 1, (done.exit_code, done.output, done.exception)
    assert done.stderr.startswith("flipkd: error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("flipkd: error: ").removesuffix("\n")


@pytest.mark.parametrize("chunk", [1, 2, 5, 8192])
def test_rows_come_back_with_the_matchers_scores(
    score: Callable[..., Result],
    table: Path,
    expected: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
) -> None:
    monkeypatch.setattr(LocalEngine, "chunk_rows", chunk)
    done = score(table)
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    rows = parsed(done.stdout_bytes.decode())
    assert rows[0] == ["id", "text_a", "text_b", "score", "match"]
    assert [tuple(row[1:3]) for row in rows[1:]] == ROWS
    assert [tuple(row[3:]) for row in rows[1:]] == expected


def test_a_file_is_written_whole_and_alone(score: Callable[..., Result], table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    done = score(table, "--out", folder / "scored.csv")
    assert (done.exit_code, done.output) == (0, "")
    assert list(folder.iterdir()) == [folder / "scored.csv"]
    assert (folder / "scored.csv").read_bytes() == score(table).stdout_bytes


def test_standard_input_is_read(score: Callable[..., Result], table: Path) -> None:
    assert score("-", stdin=table.read_bytes()).stdout_bytes == score(table).stdout_bytes


def test_jsonl_in_and_out(score: Callable[..., Result], tmp_path: Path, expected: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"q": a, "n": i * 1.50, "f": b}) for i, (a, b) in enumerate(ROWS)]
    columns = ["--a-column", "q", "--b-column", "f"]
    done = score("-", "--format", "jsonl", *columns, stdin="\n".join(lines))
    assert done.exit_code == 0, done.stderr
    for line, own, (probability, match) in zip(done.stdout.splitlines(), lines, expected, strict=True):
        assert line == f'{own[:-1]}, "score": {probability}, "match": {match}}}'
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert score(path, *columns, "--out", tmp_path / "scored.tsv").exit_code == 0
    with (tmp_path / "scored.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert rows[0] == ["q", "n", "f", "score", "match"]
    assert [tuple(row[3:]) for row in rows[1:]] == expected


def test_columns_delimiter_encoding_and_names(score: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes("frage;score;é\nWie ändere ich;7;ändern\n".encode("cp1252"))
    options = ["--a-column", "1", "--b-column", "é", "--delimiter", ";", "--encoding", "cp1252"]
    assert "there is a column 'score' already; name another with --score-column" in failure(score(path, *options))
    done = score(path, *options, "--score-column", "p", "--match-column", "same")
    assert done.exit_code == 0, done.stderr
    head, row = done.stdout_bytes.decode("cp1252").splitlines()
    assert head == "frage;score;é;p;same"
    assert row.startswith("Wie ändere ich;7;ändern;0.") or row.startswith("Wie ändere ich;7;ändern;1.")


def test_a_byte_order_mark_is_kept(score: Callable[..., Result]) -> None:
    done = score("-", stdin=b'\xef\xbb\xbf"text_a",text_b\r\na,b\r\n')
    assert done.stdout_bytes.startswith(b'\xef\xbb\xbf"text_a",text_b,score,match\r\na,b,')


@pytest.mark.parametrize(
    ("stdin", "options", "expected"),
    [(b"text_a,text_b\n", [], b"text_a,text_b,score,match\n"), (b"", ["--format", "jsonl"], b"")],
)
def test_a_table_without_rows_is_no_error(
    score: Callable[..., Result], stdin: bytes, options: list[str], expected: bytes
) -> None:
    done = score("-", *options, stdin=stdin)
    assert (done.exit_code, done.stdout_bytes) == (0, expected)


def test_long_fields_of_other_columns_are_legal(tiny_matcher: Path) -> None:
    table = "text_a,text_b,page\na,b," + "x" * 300_000 + "\n"
    command = [*FLIPKD, "score", str(tiny_matcher), "-"]
    done = subprocess.run(command, input=table, capture_output=True, text=True, timeout=120)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("text_a,text_b,page,score,match\na,b,xxx")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "standard input: empty; expected a header line"),
        ("text_a,b\n", [], "standard input: no column 'text_b'; the header has: 'text_a', 'b'"),
        ("text_a,text_b,text_b\n", [], "column 'text_b' stands twice"),
        ("text_a,text_b,match\n", [], "there is a column 'match' already; name another with --match-column"),
        ('text_a,text_b\na,"b\nb"\na\n', [], "standard input:4: 1 fields, but the header has 2"),
        ('text_a,text_b\na,"b\n', [], "standard input:2: malformed CSV"),
        (b"text_a,text_b\na,b\na,\xff\n", [], "standard input:3: not utf-8 text"),
        (b"text_a,text_b\na,\0\n", [], "standard input:2: NUL character"),
        ('{"text_a": "a"}\n', ["--format", "jsonl"], "standard input:1: no key 'text_b'"),
        ('{"text_a": "a", "text_b": 1}\n', ["--format", "jsonl"], "standard input:1: column 'text_b': expected a text"),
        ("{]\n", ["--format", "jsonl"], "standard input:1: not valid JSON"),
        ("text_a,text_b\na,b\n", ["--precision", "int3"], "int3"),
        ("text_a,text_b\na,b\n", ["--device", "tpu"], "tpu"),
    ],
)
def test_an_error_is_one_line_and_leaves_no_output(
    score: Callable[..., Result], tmp_path: Path, content: str | bytes, options: list[str], message: str
) -> None:
    done = score("-", "--out", tmp_path / "scored.out", *options, stdin=content)
    assert message in failure(done)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_input_and_a_missing_matcher(score: Callable[..., Result], table: Path, tmp_path: Path) -> None:
    assert failure(score(tmp_path / "absent.csv")) == f"{tmp_path / 'absent.csv'}: no such file"
    done = CliRunner().invoke(cli, ["score", str(tmp_path / "absent"), str(table)])
    assert "no such directory" in failure(done)


def test_an_output_is_replaced_on_request_only(score: Callable[..., Result], table: Path, tmp_path: Path) -> None:
    out = tmp_path / "scored.csv"
    out.write_text("before")
    assert "pass --overwrite" in failure(score(table, "--out", out))
    assert out.read_text() == "before"
    assert score(table, "--out", out, "--overwrite").exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("id,text_a,text_b,score,match")


def test_a_table_can_be_scored_in_place(score: Callable[..., Result], table: Path) -> None:
    expected = score(table).stdout_bytes
    assert score(table, "--out", table, "--overwrite").exit_code == 0
    assert table.read_bytes() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--delimiter", ";;"], "use one character"),
        (["--delimiter", "1"], "use one character"),
        (["--delimiter", '"'], "use one character"),
        (["--encoding", "utf-99"], "no text encoding"),
        (["--encoding", "base64"], "no text encoding"),
        (["--score-column", "x", "--match-column", "x"], "are both 'x'"),
        (["--format", "orc"], "'orc'"),
        (["--float-format", "%d"], "use a dot"),
        (["--resume"], "--resume needs"),
        (["--on-error", "skip"], "needs --rejects"),
        (["--workers", "2"], "use --threads"),
        (["--score-cutoff", "2"], "2"),
    ],
)
def test_wrong_options_are_wrong_usage(score: Callable[..., Result], options: list[str], message: str) -> None:
    done = score("-", *options, stdin="text_a,text_b\n")
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_reader_that_leaves_is_no_error_message(tiny_matcher: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("text_a,text_b\n" + "some text,another text\n" * 20_000, encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603
        [*FLIPKD, "score", str(tiny_matcher), str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    assert process.stdout.readline() == b"text_a,text_b,score,match\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=120) == 141


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize(
    ("number", "code", "message"), [(signal.SIGINT, 130, b"flipkd: interrupted\n"), (signal.SIGTERM, 143, b"")]
)
def test_a_run_that_is_stopped_leaves_nothing(
    tiny_matcher: Path, tmp_path: Path, number: signal.Signals, code: int, message: bytes
) -> None:
    process = subprocess.Popen(  # noqa: S603
        [*FLIPKD, "score", str(tiny_matcher), "-", "--out", str(tmp_path / "scored.csv")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stderr
    process.stdin.write(b"text_a,text_b\na,b\n")
    process.stdin.flush()
    deadline = time.monotonic() + 120
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    process.send_signal(number)
    assert process.wait(timeout=120) == code
    assert process.stderr.read() == message
    assert list(tmp_path.iterdir()) == []
    process.stdin.close()
    process.stderr.close()
