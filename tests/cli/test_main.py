from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from flipkd_sdk import __version__
from flipkd_sdk.cli import main
from flipkd_sdk.cli.main import cli
from flipkd_sdk.errors import MatcherDirectoryError

if TYPE_CHECKING:
    from pathlib import Path

FLIPKD = [sys.executable, "-c", "from flipkd_sdk.cli.main import run; run()"]


def flipkd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FLIPKD, *arguments], capture_output=True, text=True, timeout=120)


def test_help_lists_the_commands_without_importing_them() -> None:
    script = (
        "import sys\n"
        "from flipkd_sdk.cli.main import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'onnxruntime', 'tokenizers', 'tqdm', 'torch', 'flipkd_sdk.cli.commands.matching.score'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in ("train", "export", "verify", "score", "rank", "evaluate", "inspect", "doctor"):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("command", ["score", "rank", "evaluate", "inspect", "verify", "doctor"])
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    script = (
        "import sys\n"
        "from flipkd_sdk.cli.main import cli\n"
        f"cli.main(['{command}', '--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'onnxruntime', 'tokenizers', 'tqdm', 'torch', 'pyarrow', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f" {command} [OPTIONS] " in done.stdout
    assert f"Examples:\n    flipkd {command}" in done.stdout


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"flipkd, version {__version__}\n"


@pytest.mark.parametrize("arguments", [["absent"], ["score"], ["score", "--threads", "0", "m", "t"], ["--absent"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2
    assert "Error: " in done.stderr
    assert not done.stdout


def test_an_error_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = flipkd("inspect", str(tmp_path / "absent"))
    assert done.returncode == 1
    assert not done.stdout
    assert done.stderr.startswith(f"flipkd: error: {tmp_path / 'absent'}: no such directory; ")
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = flipkd("--debug", "inspect", str(tmp_path / "absent"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "MatcherDirectoryError" in done.stderr


def raising(error: BaseException) -> click.Command:
    @click.command()
    def inspect() -> None:
        raise error

    return inspect


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MatcherDirectoryError("m: of two\nlines"), 1, "flipkd: error: m: of two lines\n"),
        (PermissionError(13, "Permission denied", "secret.csv"), 1, "flipkd: error: secret.csv: Permission denied\n"),
        (OSError(28, "No space left on device"), 1, "flipkd: error: No space left on device\n"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            1,
            "flipkd: error: inspect needs the Python package 'torch'; run: pip install 'flipkd-sdk[cpu]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow"),
            1,
            "flipkd: error: inspect needs the Python package 'pyarrow'; run: pip install 'flipkd-sdk[parquet]'\n",
        ),
        (KeyboardInterrupt(), 130, "flipkd: interrupted\n"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
    ],
)
def test_an_error_sets_the_exit_code_and_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    monkeypatch.setattr(main.Main, "get_command", lambda *_: raising(error))
    done = CliRunner().invoke(cli, ["inspect"])
    assert done.exit_code == code
    assert done.stderr == message
    assert not done.stdout


def test_an_unexpected_error_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main.Main, "get_command", lambda *_: raising(ZeroDivisionError()))
    assert isinstance(CliRunner().invoke(cli, ["inspect"]).exception, ZeroDivisionError)


def test_each_kind_of_warning_is_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def inspect() -> None:
        for count in (3, 4):
            logging.getLogger("flipkd_sdk.runtimes").warning("%d texts were cut off", count)
        logging.getLogger("flipkd_sdk").info("not for the terminal")

    monkeypatch.setattr(main.Main, "get_command", lambda *_: inspect)
    done = CliRunner().invoke(cli, ["inspect"])
    assert done.stderr == "flipkd: warning: 3 texts were cut off (shown once)\n"


@pytest.mark.parametrize(("words", "expected"), [("flipkd ra", "rank"), ("flipkd score --on-e", "--on-error")])
def test_shells_can_complete_commands_and_options(words: str, expected: str) -> None:
    environment = {
        **os.environ,
        "_FLIPKD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(FLIPKD, capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout == f"plain,{expected}\n"
