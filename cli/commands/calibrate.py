"""``flipkd calibrate``: fit the probabilities and the threshold of a matcher to labelled pairs, without training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import columns

if TYPE_CHECKING:
    from flipkd_sdk.cli.evaluation.calibrating import Recalibrated

_Share = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(
    epilog=options.examples(
        "flipkd calibrate faq-matcher pairs.csv",
        "flipkd calibrate faq-matcher answers.csv --precision 0.95 --prior 0.01 --out search-matcher",
    )
)
@options.matcher_argument
@click.argument("pairs", type=click.Path())
@click.option(
    "--precision", type=_Share, callback=options.finite, metavar="P", help="Best recall with at least this precision."
)
@click.option(
    "--recall", type=_Share, callback=options.finite, metavar="R", help="Best precision with at least this recall."
)
@click.option("--f1", is_flag=True, help="Best F1, the default.")
@click.option(
    "--prior",
    type=_Share,
    callback=options.finite,
    metavar="SHARE",
    help="Share of matches among the pairs that will be scored.  [default: that of PAIRS]",
)
@click.option("--out", type=click.Path(), help="New directory for the matcher.  [default: MATCHER itself]")
@options.text_column_options
@click.option(
    "--label-column", default="label", show_default=True, metavar="COLUMN", help="Column of the labels, 0 or 1."
)
@options.dialect_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--variant", default="auto", show_default=True, help="Variant of the model: fp32, fp16, int8 or int4.")
@options.threads_option
def calibrate(
    matcher: str,
    pairs: str,
    precision: float | None,
    recall: float | None,
    f1: bool,
    prior: float | None,
    out: str | None,
    a_column: str | None,
    b_column: str | None,
    label_column: str,
    delimiter: str | None,
    encoding: str,
    as_json: bool,
    device: str,
    variant: str,
    threads: int | None,
) -> None:
    """Fit the probabilities and the threshold of MATCHER, a directory made by 'flipkd export', to labelled PAIRS.

    The model does not change, and neither does the order of scores. In MATCHER the old manifest is kept as
    manifest.1.json, then manifest.2.json and so on; rename one to manifest.json to return to it. Figures of the old
    threshold are removed from the manifest.

    Labelled pairs often are half matches; in a search, few of the pairs scored are. --prior corrects probabilities and
    threshold for that share. Use pairs that the matcher was not trained on.
    """
    options.refuse_swapped(matcher, pairs, "calibrate")
    if sum((precision is not None, recall is not None, f1)) > 1:
        raise click.UsageError("--precision, --recall and --f1 exclude each other; name one of them")
    from flipkd_sdk.artifact.recalibration import check_new, write_copy, write_in_place
    from flipkd_sdk.cli.evaluation.calibrating import recalibrate
    from flipkd_sdk.pairs import read_pairs
    from flipkd_sdk.runtimes.matcher import Matcher

    if out is not None:
        check_new(Path(out))
    objective = "f1"
    if precision is not None:
        objective = f"precision>={precision!r}"
    elif recall is not None:
        objective = f"recall>={recall!r}"
    data = read_pairs(
        pairs,
        a_column=a_column or "text_a",
        b_column=b_column or "text_b",
        label_column=label_column,
        delimiter=delimiter,
        encoding=encoding,
    )
    with Matcher.load(matcher, device=device, precision=variant, threads=threads) as model:
        result = recalibrate(model, data, objective=objective, prior=prior)
    for warning in result.warnings:
        click.echo(f"flipkd: warning: {pairs}: {warning}", err=True)
    kept = None
    if out is None:
        kept = write_in_place(Path(matcher), result.manifest)
    else:
        write_copy(Path(matcher), result.manifest, Path(out))
    if as_json:
        click.echo(json.dumps(_as_json(matcher, out, kept, result), indent=2, ensure_ascii=False))
        return
    click.echo(_text(result))
    if out is not None:
        click.echo(f"\n{out}: written")
    else:
        change = "not changed, the calibration is the same" if kept is None else f"changed; the old one is {kept.name}"
        click.echo(f"\n{matcher}: manifest.json {change}")


def _text(result: Recalibrated) -> str:
    before, after = result.before, result.after
    rows = [("", "before", "now"), ("objective", before.calibration.objective, after.calibration.objective)]
    for name in ("slope", "intercept", "threshold"):
        rows.append((name, f"{getattr(before.calibration, name):.4f}", f"{getattr(after.calibration, name):.4f}"))
    for name in ("precision", "recall", "f1"):
        rows.append((name, f"{before.measures[name]:.4f}", f"{after.measures[name]:.4f}"))
    blank = f"; {result.blank:,} more with a blank text left out" if result.blank else ""
    head = f"{result.pairs:,} pairs, {result.matches:,} of them matches{blank}; {result.ran}"
    share = f"precision, recall and F1 on these pairs, where {result.share:.3g} of all pairs match"
    return f"{head}\n\n{columns(rows, indent='  ')}\n\n{share}"


def _as_json(matcher: str, out: str | None, kept: Path | None, result: Recalibrated) -> dict[str, object]:
    return {
        "matcher": matcher,
        "written": out or matcher,
        "earlier_manifest": None if kept is None else kept.name,
        "pairs": result.pairs,
        "matches": result.matches,
        "blank": result.blank,
        "share_of_matches": result.share,
        "before": dataclasses.asdict(result.before),
        "now": dataclasses.asdict(result.after),
        "warnings": list(result.warnings),
    }
