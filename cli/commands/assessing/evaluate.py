"""``flipkd evaluate``: measures of a matcher on labelled pairs, alone or against another matcher."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import columns, print_json, printable
from flipkd_sdk.cli.tables.files import check_output, open_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flipkd_sdk.cli.evaluation.comparison import ChangedPair, Comparison, Scoring
    from flipkd_sdk.evaluation.bootstrap import Interval, Measured
    from flipkd_sdk.pages.html import Html
    from flipkd_sdk.pairs import Pairs

_BACKGROUND = 250
"""Pairs whose texts are the background of explanations."""
_SHOWN = 10
_SHOWN_CHARACTERS = 60


@click.command(
    epilog=options.examples(
        "flipkd evaluate faq-matcher test.csv --report report.html",
        "flipkd evaluate old-matcher test.csv --compare new-matcher",
    )
)
@options.matcher_argument
@click.argument("pairs", type=click.Path())
@options.labelled_pairs_options
@click.option(
    "--kind-column", metavar="COLUMN", help="Column of the kinds, for pass rates by kind.  [default: kind, if there]"
)
@options.threshold_option
@options.head_option
@click.option("--compare", "other", metavar="OTHER", type=click.Path(), help="Another matcher to compare with.")
@click.option(
    "--resamples",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Bootstrap resamples for the intervals; 0 for no intervals.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the resampling.")
@click.option("--report", type=click.Path(), help="Write an HTML report too.")
@click.option("--explain", is_flag=True, help="Explain the wrong and borderline pairs of the report word by word.")
@click.option("--overwrite", is_flag=True, help="Replace the report if there is one.")
@options.json_option
@options.execution_options
def evaluate(
    matcher: str,
    pairs: str,
    a_column: str | None,
    b_column: str | None,
    label_column: str,
    kind_column: str | None,
    threshold: float | None,
    head: bool,
    delimiter: str | None,
    encoding: str,
    other: str | None,
    resamples: int,
    seed: int,
    report: str | None,
    explain: bool,
    overwrite: bool,
    as_json: bool,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Measure MATCHER, a directory made by 'flipkd export', on the labelled PAIRS of a CSV or JSONL file.

    Accuracy, precision, recall and F1 are those at the threshold; average precision, the area under the ROC curve and
    Spearman's rank correlation with the label need no threshold. The calibration error is the mean distance of match
    probabilities from match rates. Each measure has a 95% bootstrap interval. Pairs with a kind, such as negation, add
    a table of pass rates by kind: a match passes if it reaches the threshold, a non-match if it does not.

    --compare adds the differences to another matcher, the pairs that the two decide differently, and McNemar's exact
    test of the number of right decisions.

    --report writes one HTML page with a verdict, a threshold slider with the cost of errors, examples and curves.
    With --explain its wrong and borderline examples show the contribution of each word.
    """
    options.refuse_swapped(matcher, pairs, "evaluate")
    from flipkd_sdk.cli.evaluation.comparison import compare, measure
    from flipkd_sdk.cli.evaluation.kinds import behaviour_of, read_kinds

    if explain and report is None:
        raise click.UsageError("--explain is for a report; name one with --report")
    if report is not None:
        check_output(report, overwrite=overwrite)
    data = options.read_labelled_pairs(
        pairs,
        a_column=a_column,
        b_column=b_column,
        label_column=label_column,
        delimiter=delimiter,
        encoding=encoding,
    )
    kinds = read_kinds(pairs, kind_column, delimiter=delimiter, encoding=encoding)
    scoring = _score(matcher, data, device, precision, threads, threshold, head)
    measured = measure(scoring, data.label, resamples=resamples, seed=seed)
    behaviour = None if kinds is None else behaviour_of(scoring, data, kinds)
    comparison = second = None
    if other is not None:
        second = _score(other, data, device, precision, threads, threshold, head)
        comparison = compare(scoring, second, data, resamples=resamples, seed=seed)
    if report is not None:
        from flipkd_sdk.cli.evaluation.report import report_html

        systems = [scoring] if second is None else [scoring, second]
        with _explaining(matcher, data, device, precision, threads) if explain else nullcontext() as explained:
            html = report_html(
                pairs, data, systems, measured, comparison, _shown_options(), behaviour=behaviour, explain=explained
            )
        with open_output(report, overwrite=overwrite) as stream:
            stream.write(html.encode())
    if as_json:
        content = _as_json(data, scoring, measured, second, comparison)
        if behaviour is not None:
            content["behaviour"] = behaviour.to_dict()
        print_json(content)
        return
    counts = f"{len(data):,} pairs, {int(data.label.sum()):,} of them matches"
    click.echo(f"{counts}; {scoring.variant} on {scoring.device}\n")
    click.echo(_measures_table(scoring, measured))
    share = float(data.label.mean())
    if share > options.OFTEN:
        click.echo(f"\nprecision holds where {share:.0%} of the pairs match, as here; in a search far fewer do")
    if behaviour is not None:
        click.echo("\n" + "\n".join(f"  {printable(line)}" for line in behaviour.table().splitlines()))
    if second is not None and comparison is not None:
        click.echo("\n" + "\n\n".join(_comparison_text(second, comparison)))


def _score(
    directory: str,
    pairs: Pairs,
    device: str,
    precision: str,
    threads: int | None,
    threshold: float | None,
    head: bool,
) -> Scoring:
    from flipkd_sdk.cli.evaluation.comparison import Scoring
    from flipkd_sdk.runtimes.matcher import Matcher

    with Matcher.load(directory, device=device, precision=precision, threads=threads, head=head) as matcher:
        probability = matcher.score_pairs(zip(pairs.a, pairs.b, strict=True))
        variant, device = matcher.precision, matcher.device
        least = matcher.threshold if threshold is None else threshold
        return Scoring(directory, variant, device, least, probability, matcher.manifest)


@contextmanager
def _explaining(
    directory: str, pairs: Pairs, device: str, precision: str, threads: int | None
) -> Iterator[Callable[[str, str], Html]]:
    """Yield the explanation of a pair as HTML, against the mean of the first texts as background."""
    from flipkd_sdk.pages.html import Html
    from flipkd_sdk.runtimes.matcher import Matcher

    with Matcher.load(directory, device=device, precision=precision, threads=threads, on_truncate="ignore") as matcher:
        background = matcher.encode([*pairs.a[:_BACKGROUND], *pairs.b[:_BACKGROUND]]).mean(axis=0)
        yield lambda a, b: Html(matcher.explain(a, b, background=background).to_html(styled=False))


def _shown_options() -> dict[str, str]:
    """Return the options of this command as strings, by name on the command line."""
    values = click.get_current_context().params
    return {f"--{name.replace('_', '-')}": "not set" if value is None else str(value) for name, value in values.items()}


def _measures_table(scoring: Scoring, measured: Measured) -> str:
    rows = [("threshold", f"{scoring.threshold:.4f}", "")]
    rows += [
        (name.replace("_", " "), f"{value:.4f}", _interval(measured.intervals.get(name), "{:.4f}"))
        for name, value in measured.values.items()
    ]
    return columns(rows, indent="  ")


def _comparison_text(second: Scoring, comparison: Comparison) -> Iterator[str]:
    yield f"{second.name} instead; {second.variant} on {second.device}, threshold {second.threshold:.4f}"
    differences = comparison.differences
    yield columns(
        [
            (name.replace("_", " "), f"{value:+.4f}", _interval(differences.intervals.get(name), "{:+.4f}"))
            for name, value in differences.values.items()
        ],
        indent="  ",
    )
    yield comparison.verdict
    if comparison.changed:
        head = ("pair", "label", "score", "instead", "", "text a", "text b")
        yield columns([head, *map(_changed_row, comparison.changed[:_SHOWN])], indent="  ")
    if len(comparison.changed) > _SHOWN:
        yield f"  and {len(comparison.changed) - _SHOWN:,} more, all of them in --json"


def _changed_row(changed: ChangedPair) -> tuple[str, ...]:
    figures = str(changed.pair), str(changed.label), f"{changed.score:.4f}", f"{changed.other_score:.4f}"
    return (*figures, "gained" if changed.gained else "lost", _shortened(changed.a), _shortened(changed.b))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _interval(interval: Interval | None, form: str) -> str:
    return "" if interval is None else f"{form.format(interval.low)} to {form.format(interval.high)}"


def _as_json(
    data: Pairs, scoring: Scoring, measured: Measured, second: Scoring | None, comparison: Comparison | None
) -> dict[str, Any]:
    result = {
        "pairs": len(data),
        "positives": int(data.label.sum()),
        "threshold": scoring.threshold,
        **measured.values,
        "intervals": _json_intervals(measured.intervals),
        "variant": scoring.variant,
        "device": scoring.device,
    }
    if second is not None and comparison is not None:
        result["comparison"] = {
            "matcher": second.name,
            "variant": second.variant,
            "device": second.device,
            "threshold": second.threshold,
            "differences": comparison.differences.values,
            "intervals": _json_intervals(comparison.differences.intervals),
            "gained": comparison.gained,
            "lost": comparison.lost,
            "p_value": comparison.p_value,
            "changed": [dataclasses.asdict(pair) for pair in comparison.changed],
        }
    return result


def _json_intervals(intervals: Mapping[str, Interval]) -> dict[str, list[float]]:
    return {name: [interval.low, interval.high] for name, interval in intervals.items()}
