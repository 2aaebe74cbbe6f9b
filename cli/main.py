"""The ``flipkd`` command: its subcommands, loaded when used, and how errors reach the user."""

from __future__ import annotations

import csv
import importlib
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from flipkd_sdk import __version__
from flipkd_sdk.cli.console import warnings_once
from flipkd_sdk.errors import FlipKDError

if TYPE_CHECKING:
    from types import FrameType

# Beyond it a quotation mark was surely left open; csv's own limit is shorter than some columns of the user's tables.
_MAX_FIELD_CHARACTERS = 1 << 24

# Shells report a program that a signal ended as 128 plus the signal's number.
_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM
_READER_GONE = 128 + 13  # SIGPIPE, which Windows does not have.


@dataclass(frozen=True, slots=True)
class Subcommand:
    """The summary of a subcommand, listed without importing it."""

    summary: str
    extra: str
    """The extra of the distribution that brings what the command imports."""


SUBCOMMANDS = {
    "train": Subcommand("Train a matcher on pairs of texts.", "train"),
    "export": Subcommand("Turn a training run into a matcher directory.", "export"),
    "verify": Subcommand("Check that a matcher computes here as exported.", "cpu"),
    "score": Subcommand("Score the pairs of a table, or of a folder of them.", "cpu"),
    "rank": Subcommand("Find the candidates that match each query best.", "cpu"),
    "evaluate": Subcommand("Measure a matcher on labelled pairs.", "cpu"),
    "inspect": Subcommand("Show and verify a matcher directory.", "cpu"),
    "doctor": Subcommand("Check what this machine can run.", "cpu"),
}
"""By name; the command ``NAME`` is the function ``NAME`` of ``flipkd_sdk.cli.commands.NAME``."""

_EXTRAS = {"pyarrow": "parquet", "ray": "ray"}
"""Extras that bring a package which only some options of a command need."""


class Main(click.Group):
    """The top command. Every error raised on purpose leaves it as one line on stderr and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands, in the order in which a user meets them."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module = importlib.import_module(f"flipkd_sdk.cli.commands.{cmd_name}")
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
            click.echo(f"flipkd: error: {_message(error, ctx.invoked_subcommand)}", err=True)
            ctx.exit(1)


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flipkd")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:  # noqa: ARG001 - read by Main.invoke
    """Train small text matchers from LLMs, and run them.

    A matcher tells whether two texts mean the same. Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    logging.getLogger("flipkd_sdk").handlers = [warnings_once()]


def run() -> NoReturn:
    """Entry point of the ``flipkd`` console script."""
    # The default action ends the process on the spot; leaving by an exception removes half-written files.
    signal.signal(signal.SIGTERM, _terminate)
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    cli.main(prog_name="flipkd")
    raise SystemExit(0)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(_TERMINATED)


def _message(error: Exception, command: str | None) -> str:
    if isinstance(error, ModuleNotFoundError) and command in SUBCOMMANDS:
        extra = _EXTRAS.get(error.name or "", SUBCOMMANDS[command].extra)
        return f"{command} needs the Python package {error.name!r}; run: pip install 'flipkd-sdk[{extra}]'"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).splitlines())


if __name__ == "__main__":
    run()
