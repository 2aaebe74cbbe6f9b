"""A run that was stopped goes on as if nothing had been: wherever it was stopped, byte for byte."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from flipkd_sdk.cli.main import cli
from flipkd_sdk.cli.scoring.local_engine import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 2_000
CHUNK = 32
WORDS = ["card", "pin", "fee", "transfer", "payment", "密码", "forgot", "reset", "how", "where", "declined"]


def write_table(path: Path, rows: int = ROWS) -> Path:
    chosen = random.Random(0)  # noqa: S311
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("id;q;f\r\n")
        for i in range(rows):
            a, b = (" ".join(chosen.choices(WORDS, k=chosen.randint(0, 6))) for _ in range(2))
            file.write(f'{i:05};"{a}";{b}\r\n' if i % 50 else f"{i:05};ragged\r\n")
    return path


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalEngine, "chunk_rows", CHUNK)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "pairs.csv")


@pytest.fixture
def arguments(tiny_matcher: Path, table: Path) -> Callable[..., list[str]]:
    def make(out: Path, *options: str, source: Path = table) -> list[str]:
        columns = ["--a-column", "q", "--b-column", "f", "--on-error", "skip"]
        return ["score", str(tiny_matcher), str(source), "--out", str(out), *columns, *options]

    return make


def run(arguments: list[str]) -> Result:
    done = CliRunner().invoke(cli, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_fifty_kills_at_random_moments_change_no_byte(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from killable import killed_after

    kills = rounds = 0
    moment = random.Random(7)  # noqa: S311
    names = ["scored.csv", "scored.csv.gz", "scored.parquet", "scored.jsonl"]
    while kills < 50:
        name = names[rounds % len(names)]
        rounds += 1
        whole, out = tmp_path / f"whole{rounds}", tmp_path / f"killed{rounds}"
        whole.mkdir()
        out.mkdir()
        killed, seconds = killed_after(None, arguments(whole / name), chunk_rows=CHUNK)
        assert not killed
        of_this_file = 0
        # A kill may come after the journal is gone and before the process ends; then all is done.
        while killed := killed_after(
            moment.uniform(0, 1.1 * seconds), arguments(out / name, "--resume"), chunk_rows=CHUNK
        )[0]:
            of_this_file += 1
            if (out / name).exists() and not (out / f"{name}.resume").exists():
                break
        assert contents(out) == contents(whole)
        kills += of_this_file


def stopped_at_row(monkeypatch: pytest.MonkeyPatch, arguments: list[str], chunks: int) -> Result:
    """A run that fails after some chunks."""
    scored = LocalEngine.scored

    def failing(self: LocalEngine, given: object) -> object:
        for i, result in enumerate(scored(self, given)):  # type: ignore[arg-type]
            if i == chunks:
                raise OSError(28, "No space left on device")
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "scored", failing)
        return run(arguments)


def test_a_failed_run_prints_how_to_continue(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scored.csv"
    done = stopped_at_row(monkeypatch, arguments(out), 3)
    assert done.exit_code == 1
    how, error = done.stderr.splitlines()
    assert how.startswith(f"flipkd: {out}: 96 rows are scored; go on with: flipkd ")
    assert how.endswith(" --resume")
    assert error == f"flipkd: error: {out}: cannot be written: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["scored.csv.resume"]
    again = run(arguments(out))
    assert again.exit_code == 1
    assert "pass --resume to continue it, or --overwrite to start over" in again.stderr
    assert run(arguments(out, "--overwrite")).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scored.csv", "scored.csv.rejects.jsonl"]


def test_kept_scores_are_not_computed_again(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scored.csv"
    stopped_at_row(monkeypatch, arguments(out), 40)
    computed = []
    scored = LocalEngine.scored

    def counted(self: LocalEngine, given: object) -> object:
        for chunk, scores in scored(self, given):  # type: ignore[arg-type]
            computed.append(len(scores))
            yield chunk, scores

    monkeypatch.setattr(LocalEngine, "scored", counted)
    assert run(arguments(out, "--resume")).exit_code == 0
    assert sum(computed) == ROWS - ROWS // 50 - 40 * CHUNK


@pytest.mark.parametrize(
    "options", [("--only-matches",), ("--float-format", ".3f"), ("--match-column", "same"), ("--score-cutoff", "0.3")]
)
def test_options_that_change_no_score_may_differ(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    assert run(arguments(tmp_path / "whole" / "o.csv", *options)).exit_code == 0
    stopped_at_row(monkeypatch, arguments(tmp_path / "stopped" / "o.csv"), 9)
    assert run(arguments(tmp_path / "stopped" / "o.csv", "--resume", *options)).exit_code == 0
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--a-column", "f"), "had --a-column 'q', this one has 'f'"),
        (("--precision", "fp32"), "had precision 'int8', this one has 'fp32'"),
        (("--on-blank", "score"), "had --on-blank 'zero', this one has 'score'"),
        (("--delimiter", ","), "no column 'q'"),
    ],
)
def test_options_that_change_scores_must_not_differ(
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    message: str,
) -> None:
    out = tmp_path / "scored.csv"
    stopped_at_row(monkeypatch, arguments(out), 3)
    kept = (tmp_path / "scored.csv.resume").read_bytes()
    done = run(arguments(out, "--resume", *options))
    assert done.exit_code == 1
    assert message in done.stderr
    assert contents(tmp_path) == {"scored.csv.resume": kept}


def test_another_input_is_refused(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Path
) -> None:
    out = tmp_path / "scored.csv"
    stopped_at_row(monkeypatch, arguments(out), 3)
    lines = table.read_bytes().split(b"\r\n")
    lines[70] = b'00069;"another";text'
    other = tmp_path / "other.csv"
    other.write_bytes(b"\r\n".join(lines))
    done = run(arguments(out, "--resume", source=other))
    assert done.exit_code == 1
    assert f"{other}: rows 65 to 96 are not those that the run which stopped has scored" in done.stderr
    assert not out.exists()
    other.write_bytes(b"\r\n".join(lines[:50]))
    assert "are not those" in run(arguments(out, "--resume", source=other)).stderr
    other.unlink()
    assert "no such file" in run(arguments(out, "--resume", source=other)).stderr
    assert run(arguments(out, "--resume")).exit_code == 0


def test_a_finished_output_is_recognized(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    out = tmp_path / "scored.csv"
    assert run(arguments(out, "--resume")).exit_code == 0, "nothing to resume is no error"
    before = contents(tmp_path)
    done = run(arguments(out, "--resume"))
    assert done.exit_code == 0
    assert done.stderr == f"flipkd: {out}: complete already; pass --overwrite instead of --resume to write it anew\n"
    assert contents(tmp_path) == before


@pytest.mark.parametrize("done_before", ["rename", "unlink"])
def test_a_kill_around_the_rename_loses_nothing(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done_before: str
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert run(arguments(tmp_path / "whole" / "o.csv")).exit_code == 0
    name, method = (Path, "replace") if done_before == "rename" else (Path, "unlink")

    def killed(*_arguments: object, **_options: object) -> None:
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(name, method, killed)
        with pytest.raises(SystemError):
            run(arguments(tmp_path / "killed" / "o.csv", "--resume"))
    assert (tmp_path / "killed" / "o.csv.resume").exists()
    assert run(arguments(tmp_path / "killed" / "o.csv", "--resume")).exit_code == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_folder_is_resumed_file_by_file(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "b").mkdir(parents=True)
    for name in ("a.csv", "b/a.csv", "c.csv"):
        write_table(source / name, 200)
    assert run(arguments(tmp_path / "whole", source=source)).exit_code == 0
    stopped_at_row(monkeypatch, arguments(tmp_path / "stopped", source=source), 5)
    while stopped_at_row(monkeypatch, arguments(tmp_path / "stopped", "--resume", source=source), 4).exit_code:
        pass
    for name in ("a.csv", "b/a.csv", "c.csv", "c.csv.rejects.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "stopped").rglob("*.resume"))
