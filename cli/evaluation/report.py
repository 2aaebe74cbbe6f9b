"""``flipkd evaluate --report``: one self-contained page, in the design of the training report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flipkd_sdk import __version__
from flipkd_sdk.evaluation.scored import Scored
from flipkd_sdk.pages import threshold as slider
from flipkd_sdk.pages.behaviour import behaviour_section
from flipkd_sdk.pages.curves import precision_recall_chart, reliability_chart
from flipkd_sdk.pages.examples import examples_section
from flipkd_sdk.pages.html import element, join
from flipkd_sdk.pages.page import Section, page
from flipkd_sdk.pages.parts import Example, facts, measures_table, pair_list, table, tiles, verdict
from flipkd_sdk.pages.verdict import caution, decisions, headline, key_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from flipkd_sdk.cli.evaluation.comparison import ChangedPair, Comparison, Scoring
    from flipkd_sdk.evaluation.behaviour import Behaviour
    from flipkd_sdk.evaluation.bootstrap import Measured
    from flipkd_sdk.pages.html import Html
    from flipkd_sdk.pairs import Pairs

_CHANGED_ROWS = 200
_THRESHOLD_NOTE = (
    "A threshold chosen here looks better on these pairs than on new ones: measure it on other pairs. Costs depend on "
    "the share of matches. In search few pairs are matches, and false matches then cost more."
)
_EXAMPLES_NOTE = (
    "If a label is wrong, correct the data. If one kind of pair is often wrong, add train pairs of that kind."
)


def report_html(
    source: str,
    pairs: Pairs,
    systems: Sequence[Scoring],
    measured: Measured,
    comparison: Comparison | None,
    options: Mapping[str, str],
    *,
    behaviour: Behaviour | None = None,
    explain: Callable[[str, str], Html] | None = None,
) -> str:
    """Return the report.

    Args:
        source: file of the pairs.
        pairs: the labelled pairs.
        systems: the matcher and, in a comparison, the other one.
        measured: measures of the first one.
        comparison: the second one against the first one.
        options: options of the command by name.
        behaviour: pass rates of the first one on pairs of known kinds.
        explain: returns the first one's explanation of a pair, for wrong and borderline examples.
    """
    systems = _short_names(systems)
    first = systems[0]
    matches = float((pairs.label == 1).mean())
    texts = [*decisions(measured, matches), *caution(measured)]
    if comparison is not None:
        texts.append(f"{systems[1].name} instead: {comparison.verdict}")
    lead = join(
        [
            verdict(headline(first.name, measured, matches), texts),
            tiles(key_figures(measured)),
            facts(_facts(source, pairs, systems)),
        ]
    )
    scored = Scored(first.name, first.probability, pairs.label)
    sections = [
        slider.threshold_section(scored, first.threshold, note=_THRESHOLD_NOTE),
        examples_section(pairs, scored, first.threshold, note=_EXAMPLES_NOTE, explain=explain),
        *([_comparison(systems, comparison)] if comparison is not None else []),
        *([behaviour_section(behaviour)] if behaviour is not None else []),
        _measures(pairs, first, measured),
        _curves(pairs, systems),
        Section(
            "options",
            "Options",
            table(("option", "value"), list(options.items()), caption="Options", text_columns=(0, 1)),
        ),
    ]
    footer = f"Written by flipkd evaluate, flipkd_sdk {__version__}."
    return page("Evaluation report", lead, sections, footer=footer, scripts=[slider.SCRIPT])


def _short_names(systems: Sequence[Scoring]) -> list[Scoring]:
    """Return the systems under the last part of their paths, if these differ."""
    names = [Path(system.name).resolve().name for system in systems]
    distinct = len(set(names)) == len(names) and all(names)
    return [replace(system, name=name) for system, name in zip(systems, names, strict=True)] if distinct else [*systems]


def _facts(source: str, pairs: Pairs, systems: Sequence[Scoring]) -> Iterator[tuple[str, str]]:
    yield "Date", _date(datetime.now(UTC).isoformat())
    yield "Pairs", f"{Path(source).name}: {len(pairs):,} pairs, {int(pairs.label.sum()):,} of them matches"
    for name, system in zip(("Matcher", "Compared with"), systems, strict=False):
        manifest = system.manifest
        yield name, f"{system.name}: {system.variant} on {system.device}, threshold {system.threshold:.4f}"
        yield (
            f"Model of {system.name}",
            f"{manifest.student.source}, taught by {manifest.teacher.source}, exported {_date(manifest.created)}",
        )


def _date(iso: str) -> str:
    return f"{iso[:16].replace('T', ' ')} UTC"


def _measures(pairs: Pairs, first: Scoring, measured: Measured) -> Section:
    note = f"Measures on the {len(pairs):,} pairs."
    if measured.intervals:
        note += (
            " Small figures are 95% bootstrap intervals. Pairs are resampled one by one; if many share a text, the "
            "true intervals are wider."
        )
    body = measures_table({first.name: measured}, caption="Measures")
    return Section("measures", "Measures", join([element("p", note), body]))


def _curves(pairs: Pairs, systems: Sequence[Scoring]) -> Section:
    scored = [Scored(system.name, system.probability, pairs.label) for system in systems]
    charts = [
        precision_recall_chart("Precision and recall", scored, [system.threshold for system in systems]),
        reliability_chart("Share of matches by score", scored),
    ]
    return Section("curves", "Curves", element("div", *charts, class_="charts"))


def _comparison(systems: Sequence[Scoring], comparison: Comparison) -> Section:
    other = systems[1].name
    differences = measures_table({"difference": comparison.differences}, caption="Differences", form="{:+.3f}")
    changed = comparison.changed[:_CHANGED_ROWS]
    body = [
        element("p", comparison.verdict),
        element("p", f"Differences are the measures of {other} minus those of {systems[0].name}."),
        differences,
    ]
    if changed:
        body += [element("h3", "Pairs that change sides"), pair_list([_changed(pair) for pair in changed])]
    if rest := len(comparison.changed) - len(changed):
        body.append(element("p", f"{rest:,} more are in the output of --json."))
    return Section("comparison", f"{other} instead", join(body))


def _changed(pair: ChangedPair) -> Example:
    label = "labelled a match" if pair.label else "labelled no match"
    side = "gained" if pair.gained else "lost"
    note = f"{side}: pair {pair.pair:,}, {label}, score {pair.score:.3f}, instead {pair.other_score:.3f}"
    return Example(pair.a, pair.b, note)
