"""Options that several commands share, and the checks of their values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., object]")

_DELIMITERS = {"tab": "\t", "\\t": "\t"}


def examples(*commands: str) -> str:
    """Commands that a user may try, as the end of a command's help, each on a line of its own."""
    # The backspace is click's sign for lines that stay as they are.
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


def matcher_argument(command: Command) -> Command:
    """The directory of the matcher, as the command's first argument."""
    return click.argument("matcher", type=click.Path())(command)


def text_column_options(command: Command) -> Command:
    """``--a-column`` and ``--b-column``: where a pair's two texts stand."""
    for name, place in (("b", 2), ("a", 1)):
        command = click.option(
            f"--{name}-column",
            metavar="COLUMN",
            help=f"Column of text {name}: its name or, except in JSONL, its position from 1.  "
            f"[default: text_{name}; with --no-header {place}]",
        )(command)
    return command


def dialect_options(command: Command) -> Command:
    """``--delimiter`` and ``--encoding``: how a table of text is written."""
    encoding_option = click.option(
        "--encoding", callback=encoding, default="utf-8", show_default=True, help="Of a table of text, such as cp1252."
    )
    delimiter_option = click.option(
        "--delimiter", callback=delimiter, help="Between the fields of a CSV.  [default: as its first records tell]"
    )
    return delimiter_option(encoding_option(command))


def table_options(command: Command) -> Command:
    """``--format``, ``--no-header`` and `dialect_options`: how a table is written."""
    header = click.option(
        "--no-header", "header", flag_value=False, default=True, help="The first record of a CSV is data."
    )
    file_format = click.option(
        "--format",
        "file_format",
        type=click.Choice(["csv", "jsonl", "parquet"]),
        help="Of the table that is read.  [default: by its suffix, else csv]",
    )
    return file_format(header(dialect_options(command)))


def execution_options(command: Command) -> Command:
    """``--device``, ``--precision`` and ``--threads``: how the matcher runs."""
    threads = click.option(
        "--threads", type=click.IntRange(min=1), help="CPU threads.  [default: the processors of this process]"
    )
    precision = click.option(
        "--precision", default="auto", show_default=True, help="Variant of the model: fp32, fp16, int8 or int4."
    )
    device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
    return device(precision(threads(command)))


def delimiter(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check ``--delimiter``: one character that cannot be part of a figure, a quotation or a line end."""
    if value is None:
        return None
    value = _DELIMITERS.get(value, value)
    if len(value) != 1 or value.isalnum() or value in '".-\r\n\0' or not value.isascii():
        raise click.BadParameter(f"{value!r}; use one character such as ',' ';' '|', or 'tab'")
    return value


def encoding(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Check that Python knows a text encoding of this name."""
    try:
        "".encode(value)
    except LookupError:
        raise click.BadParameter(f"{value!r} is no text encoding; use a name such as utf-8 or cp1252") from None
    return value


def float_format(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Check that ``--float-format`` makes a plain number of a score."""
    if not re.fullmatch(r"\.\d{1,2}[efg]", value):
        raise click.BadParameter(f"{value!r}; use a dot, a number of digits and f, e or g, such as .6f")
    return value
