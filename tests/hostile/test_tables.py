"""Tables that no program should write: endless lines, bombs, damaged Parquet, encodings that are none, and signals."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from flipkd_sdk.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")

FLIPKD = [sys.executable, "-m", "flipkd_sdk"]
ADDRESS_SPACE = 3 << 30


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def flipkd(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FLIPKD, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        preexec_fn=limited,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **environment},
    )


@pytest.fixture
def score(tiny_matcher: Path) -> Callable[..., Result]:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli, ["score", str(tiny_matcher), *map(str, arguments)])

    return run


def failure(done: Result | subprocess.CompletedProcess[str]) -> str:
    code = done.exit_code if isinstance(done, Result) else done.returncode
    assert code == 1, (code, done.stdout, done.stderr)
    assert done.stderr.startswith("flipkd: error: ") and done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("kind", ["csv", "quoted", "jsonl", "lines"])
def test_one_long_row_is_an_error_of_one_line(
    score: Callable[..., Result], tmp_path: Path, kind: str, skip: bool
) -> None:
    path = tmp_path / ("p.jsonl.gz" if kind == "jsonl" else "p.csv.gz")
    head = b"" if kind == "jsonl" else b"text_a,text_b\n"
    long = {"csv": b"a" * 3000, "quoted": b'"' + b"a\n" * 1500, "jsonl": b'{"text_a": "' + b"a" * 3000, "lines": b"a"}
    path.write_bytes(gzip.compress(head + long[kind] + (b',"' + b"b\n" * 2000 if kind == "lines" else b"")))
    options = ["--on-error", "skip"] if skip else []
    done = score(path, "--max-row-length", "1000", "--out", tmp_path / "out.csv", *options)
    if not skip or kind in ("csv", "jsonl"):
        assert "a row of more than 1,000 characters" in failure(done)
        assert not (tmp_path / "out.csv").exists()
    else:
        # The rows that follow a left-open quotation mark are malformed, but their ends are known.
        assert (done.exit_code, "rows skipped" in done.stderr) == (0, True)


def test_a_row_of_the_longest_length_is_scored(score: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    for length, code in ((1000, 0), (1001, 1)):
        path.write_text("text_a,text_b\na," + "b" * (length - 3) + "\n")
        assert score(path, "--max-row-length", "1000").exit_code == code


@pytest.mark.parametrize("name", ["zeros", "line.csv.gz", "line.jsonl.gz"])
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_an_endless_line_takes_little_memory(tiny_matcher: Path, tmp_path: Path, name: str) -> None:
    path: Path | str = tmp_path / name
    if name == "zeros":
        path = "/dev/zero"
    else:
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(40):
                file.write(b"a" * (1 << 20))
    # `getrusage` would count the process that started this one.
    script = (
        "import re, sys; from pathlib import Path; from flipkd_sdk.cli.main import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "finally: print(re.search('VmHWM: *\\t*(.*) kB', Path('/proc/self/status').read_text())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "score", str(tiny_matcher), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("flipkd: error: ") and done.stderr.count("\n") == 1
    assert ("NUL character" if name == "zeros" else "a row of more than 16,777,216 characters") in done.stderr
    assert int(done.stdout) < 300_000, "kilobytes"


@pytest.mark.parametrize("encoding", ["idna", "undefined", "punycode", "rot13", "hex", "utf-8\0", "", "x" * 500])
def test_an_encoding_that_is_none_is_wrong_usage(score: Callable[..., Result], tmp_path: Path, encoding: str) -> None:
    (tmp_path / "p.csv").write_text("text_a,text_b\na,b\n")
    done = score(tmp_path / "p.csv", "--encoding", encoding)
    assert done.exit_code == 2
    assert "is no text encoding; use a name such as utf-8" in " ".join(done.stderr.split())


@pytest.mark.parametrize("threads", ["4097", "1000000000", "-1", "0"])
def test_an_impossible_number_of_threads_is_wrong_usage(
    score: Callable[..., Result], tmp_path: Path, threads: str
) -> None:
    done = score(tmp_path / "p.csv", "--threads", threads)
    assert done.exit_code == 2
    assert "--threads" in done.stderr


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_an_encoding_without_all_signs_replaces_them(tiny_matcher: Path, command: str, encoding: str) -> None:
    done = flipkd(command, tiny_matcher, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    # click writes UTF-8 to streams in ASCII.
    assert encoding == "ascii" or "?" in done.stdout


def damaged_texts(path: Path) -> Path:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    texts = [b"card", b"\xff\xfe", b"pin", b"\xed\xa0\x80", None, b"fee"]
    array = pa.array(texts, pa.binary())
    bad = pa.Array.from_buffers(pa.string(), len(array), array.buffers())
    good = pa.array(["a", "b", "c", "d", "e", "f"])
    pq.write_table(pa.table({"text_a": bad, "text_b": good, "note": bad}), path)
    return path


def test_parquet_texts_that_are_not_utf_8_are_rejected(score: Callable[..., Result], tmp_path: Path) -> None:
    path = damaged_texts(tmp_path / "p.parquet")
    assert "row 2: column 'text_a': bytes that are not UTF-8; expected a text" in failure(score(path))
    done = score(path, "--on-error", "skip", "--out", tmp_path / "out.parquet")
    assert done.exit_code == 0, done.stderr
    assert "rows skipped: 3;" in done.stderr
    assert len((tmp_path / "out.parquet.rejects.jsonl").read_text().splitlines()) == 3


def test_other_parquet_columns_may_be_anything_in_parquet_alone(score: Callable[..., Result], tmp_path: Path) -> None:
    path = damaged_texts(tmp_path / "p.parquet")
    columns = ["--a-column", "text_b", "--b-column", "text_b"]
    assert score(path, *columns, "--out", tmp_path / "o.parquet").exit_code == 0
    done = score(path, *columns, "--out", tmp_path / "o.csv")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].endswith(
        "p.parquet: a column contains bytes that are not UTF-8; write Parquet, or remove the column"
    )


def test_parquet_that_repeats_a_long_text_is_read_in_small_batches(
    score: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    from flipkd_sdk.cli.tables import parquet

    monkeypatch.setattr(parquet, "_BATCH_BYTES", 10_000)
    batches: list[int] = []
    usable = parquet.ParquetSource._usable

    def counted(self: parquet.ParquetSource, batch: pa.RecordBatch) -> object:
        batches.append(batch.nbytes)
        return usable(self, batch)

    monkeypatch.setattr(parquet.ParquetSource, "_usable", counted)
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array(["ab " * 1000])).cast(pa.string())
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"text_a": ["a"] * 500, "text_b": ["b"] * 500, "payload": long}), path)
    done = score(path, "--out", tmp_path / "out.parquet")
    assert done.exit_code == 0, done.stderr
    assert max(batches) < 11_000
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 500
    assert "a row of 3,002 bytes; raise the limit (--max-row-length)" in failure(
        score(path, "--max-row-length", "1000", "--out", tmp_path / "other.parquet")
    )


def test_parquet_that_unpacks_to_gigabytes_is_refused(
    score: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    from flipkd_sdk.cli.tables import parquet

    monkeypatch.setattr(parquet, "_BOMB_BYTES", 1 << 20)
    path = tmp_path / "p.parquet"
    table = pa.table({"text_a": ["a"] * 40, "text_b": ["b" * 100_000] * 40})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    assert "p.parquet: row group 0: unpacks to 4,0" in failure(score(path))


def test_the_module_runs_the_command() -> None:
    done = flipkd("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("flipkd, version ")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
@pytest.mark.parametrize("where", ["import", "input", "end"])
def test_a_signal_sets_the_status_and_prints_no_traceback(
    tiny_matcher: Path, tmp_path: Path, number: signal.Signals, status: int, where: str
) -> None:
    hooks = {
        # While the command line is imported.
        "import": "sys.meta_path.insert(0, type('Hook', (), {'find_spec': lambda *a, **k: stop(a)})())",
        "input": "",
        # After everything is written.
        "end": "import flipkd_sdk.cli.main as m; m.cli.main = lambda **k: stop(('', 'flipkd_sdk.cli.main'))",
    }
    script = (
        "import os, signal, sys\n"
        "def stop(name):\n"
        f"    if 'flipkd_sdk.cli' in name[1]: os.kill(os.getpid(), {int(number)}); import time; time.sleep(5)\n"
        "from flipkd_sdk.__main__ import run\n"
        f"{hooks[where]}\n"
        "run()\n"
    )
    command = [sys.executable, "-c", script, "score", str(tiny_matcher), "-", "--out", str(tmp_path / "out.csv")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if where == "input":
        assert process.stdin is not None
        process.stdin.write(b"text_a,text_b\na,b\n")
        process.stdin.flush()
        until = time.monotonic() + 60
        while not (tmp_path / ".out.csv.part").exists() and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    expected = -number if where == "import" and number == signal.SIGHUP else status
    assert process.returncode == expected
    assert b"Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_a_signal_after_completion_does_not_change_the_status(tiny_matcher: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("text_a,text_b\na,b\n")
    script = (
        "import atexit, os, signal, sys\n"
        "from flipkd_sdk.__main__ import run\n"
        "atexit.register(lambda: [os.kill(os.getpid(), n) for n in (signal.SIGINT, signal.SIGTERM)])\n"
        "run()\n"
    )
    out = tmp_path / "out.csv"
    command = [sys.executable, "-c", script, "score", str(tiny_matcher), str(tmp_path / "p.csv"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith(f"flipkd: {out}: 1 rows, ".encode())
    assert done.stderr.count(b"\n") == 1
    assert out.exists()
