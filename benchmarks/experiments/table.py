"""Rebuild the tables of docs/results.md, and the picture beside them, from the committed results files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from experiments.figures import AP, ablations, against_teachers, comparison, read_results
from experiments.plan import LONGEST, RUNS
from plot import draw_experiments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.figures import Ablation, Estimate, Finished, Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results.md"
RESULTS = Path(__file__).resolve().parent / "results"
PICTURE = RESULTS / "quality.svg"
BEGIN = "<!-- Written by benchmarks/experiments/table.py. -->"
END = "<!-- End of what it has written. -->"

MEASURES = {AP: "AP", "f1": "F1", "roc_auc": "AUC", "top1": "top-1", "mrr": "MRR"}
"""Headings of the measures."""

COMMANDS = """\
```
python benchmarks experiments    # trains what has no results file yet; can be stopped, and goes on
make experiments-table           # writes these tables from benchmarks/experiments/results/*.json
```"""

COMPARISON = """\
Test pairs, the threshold from development pairs. In brackets the 95% interval under resampling of the pairs, for top-1
and MRR of the queries; of several seeds the mean. Of rqe the dev file is reported, and the threshold comes from part of
its easy train file. The pairs of banking77 are derived from its intents, half of the non-matches hard."""

GAINS = "AP of flipped students minus that of the teachers they learned from, on the same resampled pairs:"

ABLATIONS = """\
Ablations, all on the same cheaper base, so they compare with the first row and not with the table above; differences
are on the same resampled test pairs. One seed each. Where one is exactly 0, no epoch of the label stage was better on
the development pairs, and the student is the aligned one, as in the first row. Cosine and overlap are those with the
teacher on validation texts, which runs before their introduction lack."""

CURVE = """\
What the next texts, blocks and ranks are worth: all runs under one teacher, each differing from the first row in one
number. Cosine and overlap are those with the teacher on texts that no stage has learned."""


def block(finished: Sequence[Finished]) -> str:
    """Return the generated part of the page, with its two markers."""
    parts = [BEGIN, COMMANDS]
    if rows := comparison(finished):
        parts += [COMPARISON, _comparison_table(rows)]
        parts += [f"![Average precision with intervals]({os.path.relpath(PICTURE, PAGE.parent)})"]
    if gains := [f"- {data}, {system}: {_signed(gain)}" for data, system, gain in against_teachers(finished)]:
        parts += [GAINS, "\n".join(gains)]
    for base in dict.fromkeys(one.run.base for one in finished if one.run.base):
        if found := ablations(finished, base):
            parts += [CURVE if base.startswith("curve") else ABLATIONS, _ablation_table(found)]
    parts += [_notes(finished) if finished else "No run is finished yet.", END]
    return "\n\n".join(parts) + "\n"


def _ablation_table(found: Sequence[Ablation]) -> str:
    lines = ["| mqp | AP | to the first row | cosine | overlap | minutes |", "|---|---:|---:|---:|---:|---:|"]
    for one in found:
        gain = _signed(one.gain) if one.gain else "–"
        unseen = one.finished.record["result"].get("validation", {})
        cells = [_cell(one.precision), gain]
        cells += [f"{unseen[name]:.3f}" if unseen else "–" for name in ("validation_cosine", "validation_overlap")]
        lines.append(f"| {one.finished.run.label} | {' | '.join(cells)} | {one.finished.minutes:.0f} |")
    return "\n".join(lines)


def _comparison_table(rows: Sequence[Row]) -> str:
    lines = [
        f"| set | system | {' | '.join(MEASURES.values())} | AP by seed |",
        "|---|---|" + "---:|" * len(MEASURES) + "---|",
    ]
    for row in rows:
        cells = [_cell(row.measures[name]) if name in row.measures else "–" for name in MEASURES]
        seeds = " / ".join(f"{value:.3f}" for value in row.measures[AP].values)
        lines.append(f"| {row.data} | {row.system} | {' | '.join(cells)} | {seeds} |")
    return "\n".join(lines)


def _notes(finished: Sequence[Finished]) -> str:
    longest = max(finished, key=lambda one: one.minutes)
    took, cpus = f"{longest.minutes:.0f} minutes", longest.cpus
    lines = [
        f"A run is to fit into {LONGEST} minutes on two cores; the longest, {longest.run.name}, took {took} on {cpus}.",
        "",
    ]
    lines += [f"- Cut in {cut}" for cut in dict.fromkeys(one.run.cut for one in finished) if cut]
    for one in finished:
        if one.record["starts"] > 1:
            lines.append(
                f"- {one.run.name} was started {one.record['starts']} times; its minutes are the last start's."
            )
        if one.record["export_refused"]:
            lines.append(f"- {one.run.name} has no int8 row: {one.record['export_refused']}")
    return "\n".join(lines).rstrip()


def _cell(measured: Estimate) -> str:
    low, high = measured.interval
    return f"{measured.value:.3f} [{low:.3f}, {high:.3f}]"


def _signed(gain: Estimate) -> str:
    low, high = gain.interval
    return f"{gain.value:+.3f} [{low:+.3f}, {high:+.3f}]"


def rewritten(page: str, inside: str) -> str:
    """Return a page with the markers and everything between them replaced.

    Raises:
        ValueError: it has no such markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END + "\n")
    if not (begin and end):
        raise ValueError(f"no {BEGIN!r} … {END!r} there")
    return before + inside + after


@click.command("experiments-table")
def main() -> None:
    """Write the page's block and the picture."""
    finished = read_results(RESULTS)
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), block(finished)), encoding="utf-8")
    if finished:
        draw_experiments(comparison(finished), ablations(finished, "ablation-base"), PICTURE)
    print(f"{PAGE.name}: {len(finished)} of {len(RUNS)} runs are finished")
