"""``flipkd calibrate``: fit the thresholds of a matcher to labelled pairs or to searches, without training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import print_json

if TYPE_CHECKING:
    from flipkd_sdk.cli.evaluation.calibrating import Recalibrated
    from flipkd_sdk.cli.evaluation.search_calibration import SearchCalibration

_SEARCH_PRECISION = 0.95
_Share = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(
    epilog=options.examples(
        "flipkd calibrate faq-matcher pairs.csv",
        "flipkd calibrate faq-matcher answers.csv --precision 0.95 --prior 0.01 --out other-matcher",
        "flipkd calibrate faq-matcher --search questions.csv --candidates faq.csv --precision 0.95",
    )
)
@options.matcher_argument
@click.argument("pairs", type=click.Path(), required=False)
@click.option(
    "--search", "queries", type=click.Path(), metavar="QUERIES", help="Fit the search threshold to these queries."
)
@click.option("--candidates", type=click.Path(), metavar="TABLE", help="Table that the queries are searched among.")
@click.option(
    "--precision",
    type=_Share,
    callback=options.finite,
    metavar="P",
    help="Best recall with at least this precision; with --search the share of right answers.  "
    f"[default with --search: {_SEARCH_PRECISION}]",
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
@options.labelled_pairs_options
@click.option(
    "--text-column", default="text", show_default=True, metavar="COLUMN", help="Column of queries and candidates."
)
@click.option(
    "--intent-column",
    default="intent",
    show_default=True,
    metavar="COLUMN",
    help="Column of their intents: a candidate of the query's intent is a right answer.",
)
@options.json_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--variant", default="auto", show_default=True, help="Variant of the model: fp32, fp16, int8 or int4.")
@options.threads_option
@options.head_option
def calibrate(
    matcher: str,
    pairs: str | None,
    queries: str | None,
    candidates: str | None,
    precision: float | None,
    recall: float | None,
    f1: bool,
    prior: float | None,
    out: str | None,
    a_column: str | None,
    b_column: str | None,
    label_column: str,
    text_column: str,
    intent_column: str,
    delimiter: str | None,
    encoding: str,
    as_json: bool,
    device: str,
    variant: str,
    threads: int | None,
    head: bool,
) -> None:
    """Fit the thresholds of MATCHER, a directory made by 'flipkd export', to labelled PAIRS or to searches.

    The model does not change, and neither does the order of scores. In MATCHER the old manifest is kept as
    manifest.1.json, then manifest.2.json and so on; rename one to manifest.json to return to it.

    PAIRS give the probabilities and the threshold of pairs, and remove figures of the old threshold from the manifest.
    Labelled pairs often are half matches; --prior corrects both for another share. The search threshold stays where it
    was.

    --search gives the search threshold, which 'flipkd rank' uses: the lowest one whose answers are right often enough.
    A query has no right answer if no candidate has its intent; give some of these too. Use pairs and queries that the
    matcher was not trained on.
    """
    table = _table(pairs, queries, candidates)
    options.refuse_swapped(matcher, table, "calibrate")
    if sum((precision is not None, recall is not None, f1)) > 1:
        raise click.UsageError("--precision, --recall and --f1 exclude each other; name one of them")
    if queries is not None and (recall is not None or f1 or prior is not None):
        raise click.UsageError("--recall, --f1 and --prior are for PAIRS; a search threshold is fitted for --precision")
    from flipkd_sdk.artifact.recalibration import check_new, write_copy, write_in_place
    from flipkd_sdk.runtimes.matcher import Matcher

    if out is not None:
        check_new(Path(out))
    load = partial(Matcher.load, matcher, device=device, precision=variant, threads=threads, head=head)
    result: Recalibrated | SearchCalibration
    if candidates is not None:
        from flipkd_sdk.cli.evaluation.search_calibration import recalibrate_search
        from flipkd_sdk.evaluation.retrieval import read_intents

        asked, offered = (
            read_intents(
                path, text_column=text_column, intent_column=intent_column, delimiter=delimiter, encoding=encoding
            )
            for path in (table, candidates)
        )
        with load() as model:
            result = recalibrate_search(model, asked, offered, precision=precision or _SEARCH_PRECISION)
    else:
        from flipkd_sdk.cli.evaluation.calibrating import recalibrate

        data = options.read_labelled_pairs(
            table,
            a_column=a_column,
            b_column=b_column,
            label_column=label_column,
            delimiter=delimiter,
            encoding=encoding,
        )
        with load() as model:
            result = recalibrate(model, data, objective=_objective(precision, recall), prior=prior)
    for warning in result.warnings:
        click.echo(f"flipkd: warning: {table}: {warning}", err=True)
    kept = None
    if out is None:
        kept = write_in_place(Path(matcher), result.manifest)
    else:
        write_copy(Path(matcher), result.manifest, Path(out))
    if as_json:
        earlier = None if kept is None else kept.name
        written = {"matcher": matcher, "written": out or matcher, "earlier_manifest": earlier}
        print_json(written | result.to_dict())
    else:
        click.echo(f"{result.text()}\n\n{_written(matcher, out, kept)}")


def _table(pairs: str | None, queries: str | None, candidates: str | None) -> str:
    """Return the table to fit to: pairs, or queries that come with candidates."""
    table = queries if pairs is None else pairs
    if table is None or (pairs is not None and queries is not None):
        raise click.UsageError("name PAIRS, or queries with --search")
    if (queries is None) != (candidates is None):
        raise click.UsageError("--search and --candidates go together; name both, or neither")
    return table


def _written(matcher: str, out: str | None, kept: Path | None) -> str:
    if out is not None:
        return f"{out}: written"
    change = "not changed, the calibration is the same" if kept is None else f"changed; the old one is {kept.name}"
    return f"{matcher}: manifest.json {change}"


def _objective(precision: float | None, recall: float | None) -> str:
    if precision is not None:
        return f"precision>={precision!r}"
    return "f1" if recall is None else f"recall>={recall!r}"
