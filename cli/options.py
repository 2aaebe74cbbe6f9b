"""Options that several commands share, and the checks of their values."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.runtimes.matcher import Matcher

Command = TypeVar("Command", bound="Callable[..., object]")

_DELIMITERS = {"tab": "\t", "\\t": "\t"}
_MAX_THREADS = 4096
OFTEN = 0.1
"""Share of matches above which pairs are unlike a search."""


def examples(*commands: str) -> str:
    """Return example commands for the end of a command's help, each on its own line."""
    # The backspace is click's mark for lines that it must not wrap.
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


def matcher_argument(command: Command) -> Command:
    """Add the directory of the matcher as the command's first argument."""
    return click.argument("matcher", type=click.Path())(command)


def refuse_swapped(matcher: str, table: str, command: str) -> None:
    """Check that the matcher comes before the table.

    Raises:
        click.UsageError: the two are swapped.
    """
    if Path(matcher).is_file() and (Path(table) / "manifest.json").is_file():
        raise click.UsageError(
            f"{matcher!r} is a file and {table!r} is a matcher; name the matcher first: "
            f"flipkd {command} {table} {matcher}"
        )


def text_column_options(command: Command) -> Command:
    """Add ``--a-column`` and ``--b-column``: the columns of a pair's two texts."""
    for name, position in (("b", 2), ("a", 1)):
        command = click.option(
            f"--{name}-column",
            metavar="COLUMN",
            help=f"Column of text {name}: its name or, except in JSONL, its position from 1.  "
            f"[default: text_{name}; with --no-header {position}]",
        )(command)
    return command


def labelled_pairs_options(command: Command) -> Command:
    """Add the columns and the dialect of a table of labelled pairs, see `read_labelled_pairs`."""
    label_column = click.option(
        "--label-column", default="label", show_default=True, metavar="COLUMN", help="Column of the labels, 0 or 1."
    )
    return text_column_options(label_column(dialect_options(command)))


def read_labelled_pairs(
    path: str,
    *,
    a_column: str | None,
    b_column: str | None,
    label_column: str,
    delimiter: str | None,
    encoding: str,
) -> Pairs:
    """Read a table by the options of `labelled_pairs_options`; raise as `read_pairs` does."""
    from flipkd_sdk.pairs import read_pairs

    return read_pairs(
        path,
        a_column=a_column or "text_a",
        b_column=b_column or "text_b",
        label_column=label_column,
        delimiter=delimiter,
        encoding=encoding,
    )


def dialect_options(command: Command) -> Command:
    """Add ``--delimiter`` and ``--encoding``: the dialect of a table of text."""
    encoding_option = click.option(
        "--encoding",
        callback=encoding,
        default="utf-8",
        show_default=True,
        help="Encoding of a table of text, such as cp1252.",
    )
    delimiter_option = click.option(
        "--delimiter", callback=delimiter, help="Delimiter of a CSV.  [default: detected in its first records]"
    )
    return delimiter_option(encoding_option(command))


def table_options(command: Command) -> Command:
    """Add ``--format``, ``--no-header``, ``--max-row-length`` and `dialect_options`: how a table is read."""
    max_row_length = click.option(
        "--max-row-length",
        type=click.IntRange(1, 1 << 30),
        default=1 << 24,
        show_default=True,
        metavar="CHARACTERS",
        help="Stop at a longer row of a table of text.",
    )
    header = click.option(
        "--no-header", "header", flag_value=False, default=True, help="Read the first record of a CSV as data."
    )
    file_format = click.option(
        "--format",
        "file_format",
        type=click.Choice(["csv", "jsonl", "parquet"]),
        help="Format of the table that is read.  [default: by its suffix, else csv]",
    )
    return file_format(header(dialect_options(max_row_length(command))))


def output_text_options(command: Command) -> Command:
    """Add ``--float-format`` and ``--escape-formulas``: how values are written as text."""
    escape = click.option(
        "--escape-formulas",
        is_flag=True,
        help="Put ' before CSV cells that a spreadsheet program would run as formulas.",
    )
    digits = click.option(
        "--float-format", callback=float_format, default=".6f", show_default=True, help="Format of scores in text."
    )
    return digits(escape(command))


def blank_option(command: Command) -> Command:
    """Add ``--on-blank``: the score of pairs with an empty or blank text."""
    return click.option(
        "--on-blank",
        type=click.Choice(["zero", "score"]),
        default="zero",
        show_default=True,
        help="Score of a pair with an empty or blank text: 0, or the model's.",
    )(command)


def run_options(command: Command) -> Command:
    """Add ``--out``, ``--overwrite``, ``--resume``, ``--on-error``, ``--rejects`` and ``--json`` of a run on tables."""
    options = (
        click.option(
            "--out", type=click.Path(allow_dash=True), required=True, help="File to write; - for standard output."
        ),
        click.option("--overwrite", is_flag=True, help="Replace the output if there is one."),
        click.option("--resume", is_flag=True, help="Continue a run that stopped before its end."),
        click.option(
            "--on-error",
            type=click.Choice(["stop", "skip"]),
            default="stop",
            show_default=True,
            help="Action for a row that cannot be used.",
        ),
        click.option(
            "--rejects", type=click.Path(), help="File for the rows skipped, as JSONL.  [default: beside OUT]"
        ),
        run_json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def json_option(command: Command) -> Command:
    """Add ``--json``: the result as JSON on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(command)


def run_json_option(command: Command) -> Command:
    """Add ``--json`` of a command that writes rows to a file."""
    return click.option("--json", "as_json", is_flag=True, help="Print the figures of the run as JSON.")(command)


def engine_options(command: Command) -> Command:
    """Add ``--engine`` and ``--workers``: where the matcher runs."""
    workers = click.option("--workers", type=click.IntRange(min=1), help="Ray actors.  [default: as many as fit]")
    engine = click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Run in this process, or on Ray: here, or on the cluster that RAY_ADDRESS names.",
    )
    return engine(workers(command))


def proposals_option(command: Command) -> Command:
    """Add ``--search``: how the pairs to score are found."""
    return click.option(
        "--search",
        type=click.Choice(["exact", "ann", "auto"]),
        default="auto",
        show_default=True,
        help="Search for the nearest texts: exact, or approximate with the extra ann, which auto is from 500,000 "
        "distinct texts on.",
    )(command)


def search_with_option(command: Command) -> Command:
    """Add ``--search-with``: another matcher that proposes what MATCHER scores."""
    return click.option(
        "--search-with",
        type=click.Path(),
        metavar="DIR",
        help="Matcher that proposes what MATCHER scores, such as a static one.",
    )(command)


def threshold_option(command: Command) -> Command:
    """Add ``--threshold``: the least score of a match."""
    return _threshold("the matcher's")(command)


def search_threshold_option(command: Command) -> Command:
    """Add ``--threshold``: the least score of a best candidate that is a match; see `search_threshold`."""
    return _threshold("the matcher's search threshold")(command)


def _threshold(default: str) -> Callable[[Command], Command]:
    return click.option(
        "--threshold",
        type=click.FloatRange(0, 1),
        callback=finite,
        metavar="SCORE",
        help=f"Least score of a match, from 0 to 1.  [default: {default}]",
    )


def search_threshold(matcher: Matcher, given: float | None) -> float:
    """Return the value of ``--threshold`` for a search; warn if the matcher has a threshold of pairs only."""
    if given is not None:
        return given
    if matcher.search_threshold is not None:
        return matcher.search_threshold
    if not matcher.pair_calibration.has_prior:
        click.echo(
            f"flipkd: warning: this matcher has no search threshold; {matcher.threshold:.4f} was fitted on pairs, and "
            "in a search matches are rarer, so set --threshold, or fit one with 'flipkd calibrate --search'",
            err=True,
        )
    return matcher.threshold


def head_option(command: Command) -> Command:
    """Add ``--no-head``: score pairs by the cosine alone."""
    return click.option(
        "--no-head", "head", flag_value=False, default=True, help="Score by the cosine, without the pair head."
    )(command)


def familiarity_option(help_text: str) -> Callable[[Command], Command]:
    """Add ``--familiarity``: a column that shows texts unlike those that the matcher learned from."""
    return click.option("--familiarity", is_flag=True, help=help_text)


def execution_options(command: Command) -> Command:
    """Add ``--device``, ``--precision`` and ``--threads``: how the matcher runs."""
    precision = click.option(
        "--precision", default="auto", show_default=True, help="Variant of the model: fp32, fp16, int8 or int4."
    )
    device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
    return device(precision(threads_option(command)))


def threads_option(command: Command) -> Command:
    """Add ``--threads``: the CPU threads of the matcher."""
    return click.option(
        "--threads",
        type=click.IntRange(1, _MAX_THREADS),
        help="CPU threads.  [default: the processors of this process]",
    )(command)


def finite(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    """Check that a number is not NaN, which passes the comparisons of a range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number")
    return value


def all_finite(context: click.Context, parameter: click.Parameter, values: tuple[float, ...]) -> tuple[float, ...]:
    """Check several numbers as `finite` does."""
    for value in values:
        finite(context, parameter, value)
    return values


def check_run(out: str, *, resume: bool, skip: bool, rejects: str | None, as_json: bool) -> None:
    """Check that the options of a run go together.

    Raises:
        click.UsageError: an option needs an output that is a file.
    """
    if out != "-":
        return
    if resume:
        raise click.UsageError("--resume needs an output that is a file")
    refuse_json(out, as_json=as_json)
    if skip and rejects is None:
        raise click.UsageError("--on-error skip needs --rejects FILE where the rows go to standard output")


def refuse_json(out: str, *, as_json: bool) -> None:
    """Check that rows and JSON do not both go to standard output.

    Raises:
        click.UsageError: they do.
    """
    if as_json and out == "-":
        raise click.UsageError("--json prints to standard output; name a file with --out")


def delimiter(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check ``--delimiter``: one character that cannot be part of a number, a quotation or a line end."""
    if value is None:
        return None
    value = _DELIMITERS.get(value, value)
    if len(value) != 1 or value.isalnum() or value in '".-\r\n\0' or not value.isascii():
        raise click.BadParameter(f"{value!r}; use one character such as ',' ';' '|', or 'tab'")
    return value


def encoding(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Check ``--encoding``: a text encoding that Python can read and write."""
    from flipkd_sdk.tables.decoding import is_text_encoding

    if not is_text_encoding(value):
        raise click.BadParameter(f"{value!r} is no text encoding; use a name such as utf-8 or cp1252")
    return value


def float_format(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Check ``--float-format``: a format that makes a plain number of a score."""
    if not re.fullmatch(r"\.\d{1,2}[efg]", value):
        raise click.BadParameter(f"{value!r}; use a dot, a number of digits and f, e or g, such as .6f")
    return value
