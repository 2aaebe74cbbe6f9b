from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli
from flipkd_sdk.cli.scoring.local_engine import LocalEngine
from flipkd_sdk.cli.tables.files import open_output

if TYPE_CHECKING:
    from collections.abc import Callable

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


LAST_LINE = re.compile(
    r"flipkd: standard output: \d+ rows, \d+ matches at 0\.5000, [\d,]+ rows/s, \d+ texts truncated, "
    r"2 rows with a blank text\n"
)


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
    assert LAST_LINE.fullmatch(done.stderr), done.stderr
    rows = parsed(done.stdout_bytes.decode())
    assert rows[0] == ["id", "text_a", "text_b", "score", "match"]
    assert [tuple(row[1:3]) for row in rows[1:]] == ROWS
    assert [tuple(row[3:]) for row in rows[1:]] == expected


def test_only_the_complete_output_is_left(score: Callable[..., Result], table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    done = score(table, "--out", folder / "scored.csv")
    assert (done.exit_code, done.stdout) == (0, "")
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


def test_columns_delimiter_encoding_and_names_are_options(score: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes("frage;score;é\nWie ändere ich;7;ändern\n".encode("cp1252"))
    options = ["--a-column", "1", "--b-column", "é", "--delimiter", ";", "--encoding", "cp1252"]
    assert "the table has a column 'score' already; name another with --score-column" in failure(score(path, *options))
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
    done = subprocess.run(command, input=table, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("text_a,text_b,page,score,match\na,b,xxx")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "standard input: empty; expected a header line"),
        ("text_a,b\n", [], "no column 'text_b'; the header has: 'text_a', 'b'; name it with --b-column"),
        ("text_a,text_b,text_b\n", [], "two columns are named 'text_b'"),
        ("text_a,text_b,match\n", [], "the table has a column 'match' already; name another with --match-column"),
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


def test_a_missing_input_and_a_missing_matcher_are_named(
    score: Callable[..., Result], table: Path, tmp_path: Path
) -> None:
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


def test_a_closed_pipe_is_no_error_message(tiny_matcher: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("text_a,text_b\n" + "some text,another text\n" * 20_000, encoding="utf-8")
    process = subprocess.Popen(
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
    process = subprocess.Popen(
        [*FLIPKD, "score", str(tiny_matcher), "-", "--out", str(tmp_path / "scored.csv")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background jobs, these tests among them, may ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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


def test_the_delimiter_is_detected_and_a_missing_header_reported(
    score: Callable[..., Result], expected: list[tuple[str, str]]
) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=";").writerows([[str(i), a, b] for i, (a, b) in enumerate(ROWS)])
    done = score("-", "--no-header", "--a-column", "2", "--b-column", "3", stdin=file.getvalue().encode())
    assert done.exit_code == 0, done.stderr
    rows = list(csv.reader(io.StringIO(done.stdout_bytes.decode(), newline=""), delimiter=";"))
    assert [(a, b, p, m) for _, a, b, p, m in rows] == [(*r, *e) for r, e in zip(ROWS, expected, strict=True)]
    assert "no column 'text_a'; the header has: '0', " in failure(score("-", stdin=file.getvalue().encode()))


def test_without_a_header_the_first_two_columns_are_the_texts(score: Callable[..., Result]) -> None:
    done = score("-", "--no-header", stdin="a,b\nc,d\n")
    assert [line[:3] for line in done.stdout.splitlines()] == ["a,b", "c,d"]


def test_gzip_in_and_out(score: Callable[..., Result], table: Path, tmp_path: Path) -> None:
    plain = score(table).stdout_bytes
    packed = tmp_path / "pairs.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    assert score(packed).stdout_bytes == plain
    assert score("-", stdin=packed.read_bytes()).stdout_bytes == plain
    assert score(packed, "--out", tmp_path / "scored.csv.gz").exit_code == 0
    assert gzip.decompress((tmp_path / "scored.csv.gz").read_bytes()) == plain


@pytest.mark.parametrize(
    "options", [["--only-matches"], ["--score-cutoff", "0.4"], ["--only-matches", "--score-cutoff", "0.9"]]
)
def test_rows_are_selected(
    score: Callable[..., Result], table: Path, expected: list[tuple[str, str]], options: list[str]
) -> None:
    rows = parsed(score(table, *options).stdout_bytes.decode())[1:]
    cutoff = float(options[-1]) if "--score-cutoff" in options else 0.0
    wanted = [
        ROWS[i]
        for i, (probability, match) in enumerate(expected)
        if float(probability) >= cutoff and (match == "1" or "--only-matches" not in options)
    ]
    assert [tuple(row[1:3]) for row in rows] == wanted


def test_scores_are_written_in_the_chosen_format(
    score: Callable[..., Result], table: Path, expected: list[tuple[str, str]]
) -> None:
    rows = parsed(score(table, "--float-format", ".2f").stdout_bytes.decode())
    for row, (probability, _) in zip(rows[1:], expected, strict=True):
        assert row[3] == f"{float(row[3]):.2f}"
        assert abs(float(row[3]) - float(probability)) <= 0.005


BAD = b'text_a,text_b\na,b\nragged\n\xff,x\nc,d\n"e"f,g\nh,i\n'


def test_bad_rows_go_to_a_file_of_their_own(score: Callable[..., Result], tmp_path: Path) -> None:
    out, rejects = tmp_path / "scored.csv", tmp_path / "scored.csv.rejects.jsonl"
    done = score("-", "--out", out, "--on-error", "skip", stdin=BAD)
    assert done.exit_code == 0
    skipped, last = done.stderr.splitlines()
    assert skipped == f"flipkd: warning: rows skipped: 3; {rejects} contains them and the reasons"
    assert last.startswith(f"flipkd: {out}: 3 rows, ")
    assert [line[:3] for line in out.read_text().splitlines()[1:]] == ["a,b", "c,d", "h,i"]
    found = [json.loads(line) for line in rejects.read_text().splitlines()]
    raws = [item["row"].encode("utf-8", "surrogateescape") for item in found]
    assert [(item["line"], raw) for item, raw in zip(found, raws, strict=True)] == [
        (3, b"ragged\n"),
        (4, b"\xff,x\n"),
        (6, b'"e"f,g\n'),
    ]
    assert found[0]["reason"].startswith("standard input:3: 1 fields")
    assert "exists already" in failure(
        score("-", "--out", tmp_path / "o.csv", "--rejects", rejects, "--on-error", "skip")
    )


def test_bad_rows_of_jsonl_are_skipped(score: Callable[..., Result], tmp_path: Path) -> None:
    lines = [
        '{"text_a": "a", "text_b": "b"}',
        '{"text_a": "a"}',
        '{"text_a": 1, "text_b": "b"}',
        "{",
        '{"text_a": "a", "text_b": "b", "match": 1}',
        '{"text_a": "\\ud800", "text_b": "b"}',
        '{"text_b": "d", "text_a": "c"}',
    ]
    rejects = tmp_path / "rejects.jsonl"
    options = ["--format", "jsonl", "--on-error", "skip", "--rejects", rejects]
    done = score("-", *options, stdin="\n".join(lines))
    assert done.exit_code == 0
    assert [json.loads(line)["text_b"] for line in done.stdout.splitlines()] == ["b", "d"]
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [2, 3, 4, 5, 6]


def test_a_folder_is_scored_file_by_file(score: Callable[..., Result], tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "year=2024").mkdir(parents=True)
    (source / "a.csv").write_text("text_a,text_b\na,b\n")
    (source / "year=2024" / "b.jsonl").write_text('{"text_a": "a", "text_b": "b"}\n')
    (source / "notes.txt").write_text("no table")
    assert score(source, "--out", out).exit_code == 0
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == ["a.csv", "year=2024/b.jsonl"]
    assert (out / "a.csv").read_bytes() == score(source / "a.csv").stdout_bytes
    assert "a.csv: exists already" in failure(score(source, "--out", out))
    assert score(source, "--out", out, "--overwrite").exit_code == 0
    assert score(source).exit_code == 2
    assert "a folder in the folder that is read" in failure(score(source, "--out", source / "scored"))
    assert "a file, but" in failure(score(source, "--out", source / "a.csv"))
    (tmp_path / "empty").mkdir()
    assert "no file in it ends with" in failure(score(tmp_path / "empty", "--out", out))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize("out", ["-", "/dev/full"])
def test_a_full_disk_is_one_line(tiny_matcher: Path, table: Path, out: str) -> None:
    command = [*FLIPKD, "score", str(tiny_matcher), str(table), "--out", out]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    named = "standard output" if out == "-" else out
    assert (done.returncode, done.stderr) == (1, f"flipkd: error: {named}: No space left on device\n")


def test_an_output_that_is_being_written_is_left_to_that_run(
    score: Callable[..., Result], table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.csv"
    with open_output(str(out), overwrite=False) as first:
        first.write(b"the other run's rows")
        assert "another run is writing it" in failure(score(table, "--out", out))
    assert out.read_bytes() == b"the other run's rows"


@pytest.mark.skipif(sys.platform == "win32", reason="refuses to remove an open file")
def test_an_input_that_is_removed_while_it_is_read_is_read_to_its_end(
    score: Callable[..., Result], table: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = score(table).stdout_bytes
    scored = LocalEngine.scored

    def removing(self: LocalEngine, chunks: object) -> object:
        table.unlink()
        return scored(self, chunks)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalEngine, "scored", removing)
    assert score(table).stdout_bytes == expected


def test_a_pipe_receives_no_colour_and_no_progress(tiny_matcher: Path, table: Path) -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1"}
    command = [*FLIPKD, "score", str(tiny_matcher), str(table)]
    done = subprocess.run(command, capture_output=True, timeout=120, env=environment)
    assert done.returncode == 0
    assert LAST_LINE.fullmatch(done.stderr.decode()), done.stderr
    assert b"\x1b" not in done.stdout


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)] * 3),
        max_size=8,
    ),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    chunk=st.integers(1, 5),
)
def test_any_table_comes_back_unchanged_plus_two_columns(
    tiny_matcher: Path, rows: list[tuple[str, str, str]], delimiter: str, encoding: str, chunk: int
) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("x", "text_a", "text_b"), *rows])
    arguments = ["score", str(tiny_matcher), "-", "--encoding", encoding]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalEngine, "chunk_rows", chunk)
        done = CliRunner().invoke(cli, arguments, input=file.getvalue().encode(encoding))
    assert done.exit_code == 0, done.stderr
    written = done.stdout_bytes.decode(encoding)
    found = list(csv.reader(io.StringIO(written, newline=""), delimiter=delimiter, strict=True))
    assert [tuple(row[:3]) for row in found] == [("x", "text_a", "text_b"), *rows]
    assert {len(row) for row in found} == {5}


def test_blank_lines_and_blank_texts_are_counted(score: Callable[..., Result], tmp_path: Path) -> None:
    for name, content in (
        ("p.csv", "text_a,text_b\n\na,\n\n\t,b\na,b\n"),
        ("p.jsonl", '{"text_a": "a", "text_b": ""}\n\n \n{"text_a": "\\u2003", "text_b": "b"}\n'),
    ):
        (tmp_path / name).write_text(content)
        done = score(tmp_path / name, "--only-matches")
        lines, last = done.stderr.splitlines()
        assert lines == f"flipkd: {tmp_path / name}: blank lines skipped: 2"
        assert last.endswith(", 2 rows with a blank text")


def test_pairs_with_a_blank_text_score_zero_unless_the_option_is_set(
    score: Callable[..., Result], table: Path, tiny_matcher: Path
) -> None:
    with Matcher.load(tiny_matcher, on_blank="score") as matcher:
        scored = [f"{value:.6f}" for value in matcher.score_pairs(ROWS).tolist()]
    by_default = [row[3:] for row in parsed(score(table).stdout)[1:]]
    assert [row == ["0.000000", "0"] for row in by_default] == [not a.strip() or not b.strip() for a, b in ROWS]
    assert [row[3] for row in parsed(score(table, "--on-blank", "score").stdout)[1:]] == scored
    assert min(map(float, scored)) > 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_delimiter_line_of_excel_is_honoured_and_kept(
    score: Callable[..., Result], tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes("sep=|\r\ntext_a|text_b\r\na,b;c|b;c,d\r\n".encode(encoding))
    done = score(path, "--encoding", encoding)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout_bytes.decode(encoding).split("\r\n")
    assert lines[:2] == ["sep=|", "text_a|text_b|score|match"]
    assert lines[2].startswith("a,b;c|b;c,d|0.")


def test_formulas_are_escaped_on_request_and_numbers_never(score: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text('=id,text_a,text_b\n"=1+1",@SUM(A1),-1+2\n-5,"+3,5",plain\n"a=b",-,x\n')
    rows = parsed(score(path, "--escape-formulas").stdout)
    assert rows[0] == ["'=id", "text_a", "text_b", "score", "match"]
    assert [row[:3] for row in rows[1:]] == [
        ["'=1+1", "'@SUM(A1)", "'-1+2"],
        ["-5", "+3,5", "plain"],
        ["a=b", "-", "x"],
    ]
    assert score(path).stdout.splitlines()[1].startswith('"=1+1",@SUM(A1),-1+2,0.')
    assert json.loads(score(path, "--escape-formulas", "--out", tmp_path / "o.jsonl").stdout or "{}") == {}
    assert json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])["=id"] == "=1+1"


def test_a_workbook_is_refused_with_a_remedy(score: Callable[..., Result], table: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.xlsx"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert failure(score(path)) == (
        f"{path}: a workbook or a zip archive; save the sheet as 'CSV UTF-8' in the spreadsheet program"
    )
    assert "workbooks are not written; name a .csv file" in failure(score(table, "--out", tmp_path / "out.XLSX"))


@pytest.mark.parametrize("command", ["score", "evaluate", "rank"])
def test_swapped_arguments_are_recognized(tiny_matcher: Path, table: Path, command: str) -> None:
    last = [str(table)] if command == "rank" else []
    done = CliRunner().invoke(cli, [command, str(table), str(tiny_matcher), *last])
    assert done.exit_code == 2
    assert f"name the matcher first: flipkd {command} {tiny_matcher} {table}" in done.stderr


def test_environment_variables_set_options(
    score: Callable[..., Result], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIPKD_SCORE_FLOAT_FORMAT", ".2f")
    monkeypatch.setenv("FLIPKD_SCORE_A_COLUMN", "absent")
    assert "no column 'absent'" in failure(score(table))
    rows = parsed(score(table, "--a-column", "text_a").stdout)
    assert all(len(row[3]) == 4 for row in rows[1:])


def test_the_threshold_of_the_command_decides(
    score: Callable[..., Result], table: Path, expected: list[tuple[str, str]]
) -> None:
    for threshold, flag in (("0", "1"), ("1", "0")):
        rows = list(csv.DictReader(io.StringIO(score(table, "--threshold", threshold).stdout, newline="")))
        assert [(row["score"], row["match"]) for row in rows] == [(value, flag) for value, _ in expected]
    assert score(table, "--threshold", "1", "--only-matches").stdout.splitlines() == ["id,text_a,text_b,score,match"]
    for wrong in ("1.5", "-0.5", "nan", "high"):
        assert score(table, "--threshold", wrong).exit_code == 2


def test_explain_adds_a_column_with_pairs_of_words(score: Callable[..., Result], table: Path) -> None:
    done = score(table, "--explain", "--only-matches")
    assert done.exit_code == 0, done.stderr
    header, *rows = parsed(done.stdout)
    assert header[-3:] == ["score", "match", "explanation"]
    assert rows
    assert " ~ reset +" in rows[0][-1] or " ~ password +" in rows[0][-1] or " ~ my +" in rows[0][-1]
    plain = parsed(score(table, "--only-matches").stdout)
    assert [row[:-1] for row in [header, *rows]] == plain


def test_a_table_with_a_column_explanation_is_refused(score: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("text_a,text_b,explanation\na,b,c\n", encoding="utf-8")
    assert "has a column 'explanation' already" in failure(score(path, "--explain"))
