"""``flipkd verify``: comparison of a matcher on this machine with its measurements at export."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import columns, print_json

if TYPE_CHECKING:
    from flipkd_sdk.runtimes.verification import Check, Verification


@click.command(
    epilog=options.examples(
        "flipkd verify faq-matcher",
        "flipkd verify faq-matcher --pairs runs/faq/splits/test.csv --split test",
        "flipkd verify faq-matcher --json | jq '.checks[] | select(.passed | not)'",
    )
)
@options.matcher_argument
@click.option("--pairs", "file", metavar="FILE", help="Labelled pairs to measure on as well, CSV or JSONL.")
@options.text_column_options
@click.option("--label-column", metavar="COLUMN", help="Column of the labels, 0 or 1.  [default: label]")
@options.dialect_options
@click.option(
    "--split", metavar="NAME", help="The pairs are this split of the training run, dev or test: hold F1 and AP to it."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--precision", metavar="NAME", help="The only variant to check, such as int8.  [default: all of them]")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: the processors of this process]")
@options.json_option
@click.pass_context
def verify(
    ctx: click.Context,
    matcher: str,
    file: str | None,
    a_column: str | None,
    b_column: str | None,
    label_column: str | None,
    delimiter: str | None,
    encoding: str,
    split: str | None,
    device: str,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Check that MATCHER, a directory made by 'flipkd export', computes on this machine as at export.

    For every variant it checks the size and SHA-256 of the file, the reference vectors of random tokens, and that
    scores are the same alone, in batches, in another order and with other threads. If the float32 variant exists, it
    measures the drift from it. With --pairs, it measures F1 and average precision as well.

    The exit code is 1 if a limit is exceeded.
    """
    from flipkd_sdk.pairs import read_pairs
    from flipkd_sdk.runtimes.load import LoadOptions
    from flipkd_sdk.runtimes.verification import verify as run_verification

    if split is not None and file is None:
        raise click.UsageError("--split says which pairs those of --pairs are; give --pairs FILE too")
    chosen = LoadOptions(device=device, precision=precision or "auto", threads=threads, on_truncate="ignore")
    pairs = None
    if file is not None:
        pairs = read_pairs(
            file,
            a_column=a_column or "text_a",
            b_column=b_column or "text_b",
            label_column=label_column or "label",
            delimiter=delimiter,
            encoding=encoding,
        )
    found = run_verification(Path(matcher).resolve(), chosen, pairs=pairs, split=split)
    if as_json:
        print_json(_as_dict(matcher, found))
    else:
        click.echo(_as_text(matcher, found))
    if found.failures:
        click.echo(f"flipkd: error: {matcher}: {'; '.join(map(_failure, found.failures))}", err=True)
        ctx.exit(1)


def _as_dict(matcher: str, found: Verification) -> dict[str, object]:
    content = dataclasses.asdict(found)
    content["checks"] = [{**dataclasses.asdict(check), "passed": check.passed} for check in found.checks]
    return {"directory": matcher, **content, "passed": not found.failures}


def _as_text(matcher: str, found: Verification) -> str:
    ran = ", ".join(f"{precision} on {device}" for precision, device in found.devices.items())
    self_test = "" if found.has_self_test else "; no self-test in it, export it again for one"
    head = f"{matcher}: {len(found.files)} files as exported; ran {ran}{self_test}"
    rows = [
        (
            check.variant,
            check.what,
            f"{check.measured:.4g}",
            "-" if check.exported is None else f"{check.exported:.4g}",
            _limit(check),
            "ok" if check.passed else "FAILED",
        )
        for check in found.checks
    ]
    return f"{head}\n\n{columns([('variant', 'check', 'here', 'at export', 'limit', ''), *rows], indent='  ')}"


def _limit(check: Check) -> str:
    bounds = [
        f"{sign} {limit:.4g}" for sign, limit in (("≥", check.at_least), ("≤", check.at_most)) if limit is not None
    ]
    return ", ".join(bounds) or "-"


def _failure(check: Check) -> str:
    return f"{check.variant} {check.what} {check.measured:.4g} is not {_limit(check)}"
