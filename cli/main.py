"""The ``flipkd`` command: its subcommands, imported when used, and its messages of errors."""

from __future__ import annotations

import importlib
import io
import logging
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from flipkd_sdk import __version__
from flipkd_sdk.cli.console import warnings_once
from flipkd_sdk.errors import FlipKDError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

# Shells report a program that a signal ended as 128 plus the signal's number.
_INTERRUPTED = 128 + signal.SIGINT
_received: list[int] = []
"""Signals that have stopped the command."""
_READER_GONE = 128 + 13  # SIGPIPE, which Windows does not have.
_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True, slots=True)
class Subcommand:
    """Summary of a subcommand, listed without importing it."""

    summary: str
    extra: str
    """Extra of the distribution that installs the command's packages."""
    room: str
    """Folder of the command's module below ``cli/commands``."""


SUBCOMMANDS = {
    "train": Subcommand("Train a matcher on pairs of texts.", "train", "making"),
    "export": Subcommand("Turn a training run or an encoder into a matcher.", "export", "making"),
    "push": Subcommand("Upload a matcher to a model hub.", "hub", "making"),
    "pull": Subcommand("Download a matcher from a model hub.", "hub", "making"),
    "verify": Subcommand("Check that a matcher computes here as exported.", "cpu", "assessing"),
    "score": Subcommand("Score the pairs of a table, or of a folder of them.", "cpu", "matching"),
    "rank": Subcommand("Find the candidates that match each query best.", "cpu", "matching"),
    "link": Subcommand("Find the rows of two tables that match.", "cpu", "matching"),
    "dedupe": Subcommand("Group the rows of a table that mean the same.", "cpu", "matching"),
    "label": Subcommand("Label the pairs that teach a matcher most.", "serve", "making"),
    "serve": Subcommand("Serve a matcher over HTTP, with a page.", "serve", "matching"),
    "evaluate": Subcommand("Measure a matcher on labelled pairs.", "cpu", "assessing"),
    "check": Subcommand("Check a matcher's behaviour by kinds of pairs.", "cpu", "assessing"),
    "drift": Subcommand("Compare a table with a matcher's domain.", "cpu", "assessing"),
    "calibrate": Subcommand("Fit probabilities and threshold to your pairs.", "cpu", "assessing"),
    "inspect": Subcommand("Show and verify a matcher directory.", "cpu", "assessing"),
    "doctor": Subcommand("Check what this machine can run.", "cpu", "assessing"),
}
"""Subcommands by name; the command ``NAME`` is the function ``NAME`` of ``flipkd_sdk.cli.commands.ROOM.NAME``."""

_EXTRAS = {"pyarrow": "parquet", "ray": "ray", "usearch": "ann"}
"""Extras that install packages which only some options of a command need."""


class Main(click.Group):
    """Top command; it prints every error raised on purpose as one line on stderr and sets the exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands in the order in which a user needs them."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in SUBCOMMANDS:
            return None
        room = SUBCOMMANDS[cmd_name].room
        module = importlib.import_module(f"flipkd_sdk.cli.commands.{room}.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in SUBCOMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click declares it
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            ctx.exit(_READER_GONE)
        except KeyboardInterrupt:
            click.echo("flipkd: interrupted", err=True)
            ctx.exit(_INTERRUPTED)
        except (FlipKDError, OSError, ModuleNotFoundError) as error:
            if ctx.params["debug"]:
                raise
            if _received:  # The import of an extension module turns the exit into an error of its own.
                ctx.exit(128 + _received[0])
            click.echo(f"flipkd: error: {_message(error, ctx.invoked_subcommand)}", err=True)
            ctx.exit(1)


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "FLIPKD"})
@click.version_option(__version__, prog_name="flipkd")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:  # noqa: ARG001 - read by Main.invoke
    """Train small text matchers from LLMs, and run them.

    A matcher decides whether two texts mean the same. An environment variable sets an option: FLIPKD_SCORE_THREADS=2
    is --threads 2 of 'flipkd score'. Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    logging.getLogger("flipkd_sdk").handlers = [warnings_once()]


def run() -> NoReturn:
    """Run the command line with the process's arguments, signals and streams."""
    _set_stopping(_stop)
    for stream in (sys.stdout, sys.stderr):
        # An encoding such as cp1252 lacks some signs in messages; an error would hide the message.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
    try:
        cli.main(prog_name="flipkd")
    finally:
        # All outputs have their names or are removed, so a signal must not change the exit status any more.
        _set_stopping(signal.SIG_IGN)
    raise SystemExit(0)


def _set_stopping(action: Callable[[int, FrameType | None], NoReturn] | signal.Handlers) -> None:
    for number in _STOPPING:
        # A signal that is ignored from the start, as under nohup, stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, action)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave by an exception, which removes half-written files."""
    _received.append(number)
    if number == signal.SIGINT:
        os.write(2, b"flipkd: interrupted\n")  # `print` is not reentrant.
    raise SystemExit(128 + number)


def _message(error: Exception, command: str | None) -> str:
    if isinstance(error, ModuleNotFoundError) and command in SUBCOMMANDS:
        extra = _EXTRAS.get(error.name or "", SUBCOMMANDS[command].extra)
        return f"{command} needs the Python package {error.name!r}; run: pip install 'flipkd-sdk[{extra}]'"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).splitlines())


if __name__ == "__main__":
    run()
