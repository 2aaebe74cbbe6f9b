"""``flipkd evaluate``: how good a matcher is on labelled pairs."""

from __future__ import annotations

import json

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import columns


@click.command()
@options.matcher_argument
@click.argument("pairs", type=click.Path())
@options.text_column_options
@click.option(
    "--label-column", default="label", show_default=True, metavar="COLUMN", help="Column of the labels, 0 or 1."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@options.execution_options
def evaluate(
    matcher: str,
    pairs: str,
    a_column: str,
    b_column: str,
    label_column: str,
    as_json: bool,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Measure MATCHER, a directory made by 'flipkd export', on the labelled PAIRS of a CSV or JSONL file.

    Accuracy, precision, recall and F1 are those at the matcher's own threshold; average precision and the area under
    the ROC curve need no threshold; the calibration error tells how far match probabilities are from match rates.
    """
    from flipkd_sdk.metrics import summary
    from flipkd_sdk.pairs import read_pairs
    from flipkd_sdk.runtimes.matcher import Matcher

    data = read_pairs(pairs, a_column=a_column, b_column=b_column, label_column=label_column)
    with Matcher.load(matcher, device=device, precision=precision, threads=threads) as model:
        probability = model.score_pairs(zip(data.a, data.b, strict=True))
        counts = {"pairs": len(data), "positives": int(data.label.sum())}
        measures = {"threshold": model.threshold, **summary(probability, data.label, model.threshold)}
        ran = {"variant": model.precision, "device": model.device}
    if as_json:
        click.echo(json.dumps({**counts, **measures, **ran}, indent=2))
        return
    click.echo("{pairs:,} pairs, {positives:,} of them matches; {variant} on {device}\n".format(**counts, **ran))
    click.echo(columns([(name.replace("_", " "), f"{value:.4f}") for name, value in measures.items()], indent="  "))
