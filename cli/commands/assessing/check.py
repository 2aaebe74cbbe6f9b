"""``flipkd check``: pass rates of a matcher by kinds of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import print_json, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flipkd_sdk.evaluation.behaviour import Behaviour, KindBehaviour

_FEWEST_PAIRS = 10
"""Pairs of a kind from which on --min-pass-rate applies to it."""


@click.command(
    epilog=options.examples(
        "flipkd check faq-matcher questions.csv --text-column question",
        "flipkd check faq-matcher behaviour.csv --min-pass-rate 0.85 --json > behaviour.json",
    )
)
@options.matcher_argument
@click.argument("table", type=click.Path())
@click.option("--text-column", metavar="COLUMN", help="Column of the texts: name or position.  [default: text]")
@click.option("--language", metavar="CODE", help="Language of the texts, such as en.  [default: detected]")
@click.option("--pack", type=click.Path(), help="Language pack of your own, a TOML file, instead of --language.")
@click.option(
    "--per-kind", type=click.IntRange(min=1), default=100, show_default=True, help="Most pairs made of each kind."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the pairs made.")
@options.threshold_option
@options.head_option
@click.option(
    "--min-pass-rate",
    type=click.FloatRange(0, 1),
    callback=options.finite,
    metavar="RATE",
    help=f"Fail if a kind with at least {_FEWEST_PAIRS} pairs has a lower pass rate.",
)
@click.option(
    "--examples", type=click.IntRange(min=0), default=3, show_default=True, help="Most failed pairs shown of each kind."
)
@options.json_option
@options.execution_options
@click.pass_context
def check(
    ctx: click.Context,
    matcher: str,
    table: str,
    text_column: str | None,
    language: str | None,
    pack: str | None,
    per_kind: int,
    seed: int,
    threshold: float | None,
    head: bool,
    min_pass_rate: float | None,
    examples: int,
    as_json: bool,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Check how MATCHER, a directory made by 'flipkd export', decides pairs of known kinds.

    TABLE is a CSV or JSONL file in UTF-8, or a text file with one text per line. If it has the columns text_a, text_b,
    label and kind, its pairs are scored. From any other texts, contrast pairs are made: each is a text and a copy with
    one small change, which alters the meaning or does not. Use texts that the matcher was not trained on.

    A non-match passes if its score is below the threshold, a match if it is not. With --min-pass-rate the exit code
    is 1 if a kind fails.
    """
    options.refuse_swapped(matcher, table, "check")
    if language is not None and pack is not None:
        raise click.UsageError("--language and --pack exclude each other; name one of them")
    from flipkd_sdk.cli.evaluation.kinds import kind_pairs
    from flipkd_sdk.evaluation.behaviour import check_behaviour
    from flipkd_sdk.runtimes.matcher import Matcher

    chosen = kind_pairs(table, text_column=text_column, rules=pack or language, per_kind=per_kind, seed=seed)
    with Matcher.load(matcher, device=device, precision=precision, threads=threads, head=head) as model:
        least = model.threshold if threshold is None else threshold
        behaviour = check_behaviour(chosen.pairs, model.score_pairs, threshold=least, examples=examples)
        ran = f"{model.precision} on {model.device}"
    judged = [kind for kind in behaviour.kinds if kind.pairs >= _FEWEST_PAIRS]
    below = [] if min_pass_rate is None else [kind for kind in judged if kind.pass_rate < min_pass_rate]
    if as_json:
        content = {
            "matcher": matcher,
            "ran": ran,
            "origin": chosen.origin,
            **behaviour.to_dict(),
            "min_pass_rate": min_pass_rate,
            "below_min_pass_rate": [kind.kind for kind in below],
        }
        print_json(content)
    else:
        click.echo(_text(behaviour, chosen.origin, ran))
    if min_pass_rate is not None and (below or not judged):
        click.echo(f"flipkd: error: {matcher}: {_failure(below, min_pass_rate)}", err=True)
        ctx.exit(1)


def _text(behaviour: Behaviour, origin: str, ran: str) -> str:
    lines = [f"{behaviour.pairs:,} pairs, {origin}; {ran}, threshold {behaviour.threshold:.4f}", ""]
    lines += map(printable, behaviour.table().splitlines())
    if behaviour.average_precision is not None:
        lines += ["", f"average precision {behaviour.average_precision:.4f}"]
    return "\n".join(lines)


def _failure(below: Sequence[KindBehaviour], least: float) -> str:
    if not below:
        return f"no kind has the {_FEWEST_PAIRS} pairs that --min-pass-rate needs; give more texts or pairs"
    rates = ", ".join(f"{kind.kind} {kind.pass_rate:.3f}" for kind in below)
    return f"pass rates below {least:g}: {rates}"
