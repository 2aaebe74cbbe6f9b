"""Drift of a table against the profile of a matcher's domain: a sample of rows, its measures, their comparison."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flipkd_sdk.artifact.profile import MEASURES
from flipkd_sdk.cli.console import printable, row_progress, step_progress
from flipkd_sdk.cli.tables.open import open_source
from flipkd_sdk.cli.tables.sources import TextColumn, refuse_row
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation.drift import MODERATE, STRONG, Drift, least_values
from flipkd_sdk.runtimes.load import load_profile
from flipkd_sdk.runtimes.measures import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from flipkd_sdk.cli.tables.open import TableOptions
    from flipkd_sdk.runtimes.matcher import Matcher

NAMES = {
    "score": "score",
    "length": "length in pieces",
    "unknown": "share of unknown pieces",
    "similarity": "similarity",
}
_CHUNK_ROWS = 8192
_EXAMPLES = 10
_LONGEST_EXAMPLE = 300


@dataclass(frozen=True, slots=True)
class FirstColumn(TextColumn):
    """Column of texts by its usual name in a table of pairs, or else in one of texts."""

    otherwise: str = "text"

    def name(self, find: Callable[[str], str]) -> str:
        """Return the name of the column; raise `InvalidPairsError` if the table has neither."""
        with contextlib.suppress(InvalidPairsError):
            return find(self.wanted)
        try:
            return find(self.otherwise)
        except InvalidPairsError as error:
            raise InvalidPairsError(
                f"{error}; name a column of texts with --text-column, or two with --a-column and --b-column"
            ) from None


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows of a table, drawn at random."""

    table: str
    rows: int
    """Number of rows of the table."""
    items: Sequence[str] | Sequence[tuple[str, str]]
    """Texts or pairs."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasureDrift:
    """Drift of one measure, with the edges as a reader knows them."""

    name: str
    drift: Drift
    edges: Sequence[float]
    """Edges of the bins; of scores as probabilities."""

    @property
    def verdict(self) -> str:
        """Return the drift in words."""
        if not self.drift.exceeds(MODERATE):
            return "stable"
        return "strong drift" if self.drift.exceeds(STRONG) else "some drift"

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
        return {**self.drift.to_dict(), "edges": list(self.edges), "verdict": self.verdict}


@dataclass(frozen=True, slots=True, eq=False)
class DriftCheck:
    """Comparison of a table with a matcher's profile."""

    matcher: str
    ran: str
    profile: str
    """Size of the profile in words."""
    sample: Sample
    pairs: int
    """Pairs that were scored."""
    texts: int
    """Distinct texts that were measured."""
    blank_texts: int
    truncated_texts: int
    measures: Sequence[MeasureDrift]
    unlike: Sequence[tuple[str, float]]
    """Texts that are least similar to the training texts, with the similarity."""

    def above(self, limit: float) -> list[MeasureDrift]:
        """Return the measures that exceed a limit."""
        return [measured for measured in self.measures if measured.drift.exceeds(limit)]

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
        return {
            "matcher": self.matcher,
            "table": self.sample.table,
            "ran": self.ran,
            "rows": self.sample.rows,
            "sampled_rows": len(self.sample.items),
            "pairs": self.pairs,
            "texts": self.texts,
            "blank_texts": self.blank_texts,
            "truncated_texts": self.truncated_texts,
            "measures": {measured.name: measured.to_dict() for measured in self.measures},
        }


def read_sample(table: str, reading: TableOptions, *, most: int, seed: int) -> Sample:
    """Read rows of a table, all of them or as many as are wanted at random (Vitter's algorithm R, 1985).

    Args:
        table: the file, or ``-``.
        reading: options for reading it, with `FirstColumn` where the user names no columns.
        most: most rows.
        seed: the same table and seed give the same rows.

    Raises:
        InvalidPairsError: the table or a row of it cannot be used, or it has no rows.
    """
    random = np.random.default_rng(seed)
    kept: list[tuple[str, str]] = []
    rows = 0
    with open_source(table, reading, (), refuse_row) as (source, _), row_progress(source.total) as advance:
        paired = _paired(reading, source.head.columns)
        while chunk := source.take(_CHUNK_ROWS):
            places = random.integers(0, np.arange(rows + 1, rows + len(chunk.pairs) + 1)).tolist()
            for pair, place in zip(chunk.pairs, places, strict=True):
                if len(kept) < most:
                    kept.append(pair)
                elif place < most:
                    kept[place] = pair
            rows += len(chunk.pairs)
            advance(len(chunk.pairs), chunk.position)
    if not rows:
        raise InvalidPairsError(f"{table}: no rows; give texts or pairs to compare with the profile")
    if paired:
        return Sample(table, rows, kept)
    second = isinstance(reading.texts[0], FirstColumn) and reading.texts[0].wanted in source.head.columns
    return Sample(table, rows, [pair[second] for pair in kept])


def _paired(reading: TableOptions, names: Sequence[str]) -> bool:
    """Return True if a table is read as pairs."""
    a, b = reading.texts
    if isinstance(a, FirstColumn):
        return {a.wanted, b.wanted} <= set(names)
    return a.option != b.option


def check_drift(matcher: Matcher, directory: Path, sample: Sample, *, limit: float) -> DriftCheck:
    """Measure a sample and compare it with the profile of a matcher.

    Args:
        matcher: the matcher.
        directory: its directory.
        sample: texts or pairs.
        limit: index that the sample must be large enough for.

    Raises:
        ConfigError: the matcher has no profile.
        InvalidPairsError: the sample is too small.
        MatcherDirectoryError: the profile is missing, changed or malformed.
    """
    profile = load_profile(directory, matcher.manifest)
    stored = profile.histograms
    with step_progress() as progress:
        values = measure(
            matcher,
            sample.items,
            known=profile.known if "unknown" in stored else None,
            progress=lambda done: progress("measuring", done, len(sample.items)),
        )
    measured = []
    paired = isinstance(sample.items[0], tuple)
    for name in MEASURES:
        found = getattr(values, name)
        if name not in stored or (name == "score" and not paired):
            continue
        needed = least_values(stored[name], limit)
        if len(found) < needed:
            what = "pairs without a blank text" if name == "score" else "distinct texts"
            raise InvalidPairsError(
                f"{sample.table}: {len(found):,} {what} are too few to tell drift from chance; at least {needed:,} are "
                "needed"
            )
        edges = stored[name].edges
        shown = matcher.pair_calibration.probability(edges.astype(np.float32)) if name == "score" else edges
        drift = Drift(stored[name], stored[name].count(found))
        measured.append(MeasureDrift(name, drift, shown.tolist()))
    least = np.argsort(values.similarity, kind="stable")[:_EXAMPLES].tolist()
    described = matcher.manifest.profile
    return DriftCheck(
        matcher=str(directory),
        ran=f"{matcher.precision} on {matcher.device}",
        profile="" if described is None else f"{described.pairs:,} pairs and {described.texts:,} texts",
        sample=sample,
        pairs=len(values.score),
        texts=len(values.texts),
        blank_texts=values.blank,
        truncated_texts=matcher.truncated_texts,
        measures=measured,
        unlike=[(printable(values.texts[i][:_LONGEST_EXAMPLE]), values.similarity[i]) for i in least],
    )
