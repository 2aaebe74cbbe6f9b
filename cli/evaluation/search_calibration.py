"""Fit of a matcher's search threshold to queries with known answers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact.recalibration import with_search
from flipkd_sdk.cli.console import columns
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation.searches import fit_search_threshold, measure_answers, search, threshold_within_reach

if TYPE_CHECKING:
    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.evaluation.retrieval import IntentTexts
    from flipkd_sdk.evaluation.searches import Answers
    from flipkd_sdk.runtimes.matcher import Matcher


_ROWS = {
    "threshold": "search threshold",
    "given": "queries answered",
    "precision": "of these right",
    "coverage": "answered, of those with a right candidate",
    "false_answers": "answered, of those without",
}
"""Rows of the comparison by field of `Answers`."""


@dataclass(frozen=True, slots=True)
class SearchCalibration:
    """A new search threshold, and its comparison with the old one."""

    manifest: Manifest
    """The matcher's, with the new threshold."""
    before: Answers
    """With the threshold that `flipkd rank` used so far."""
    after: Answers
    queries: int
    answerable: int
    """Queries with a right candidate."""
    candidates: int
    precision: float
    ran: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return a warning if the queries do not show whether the matcher leaves a query unanswered."""
        if self.queries > self.answerable:
            return ()
        return ("every query has a right candidate; add some without one, or those in use will be answered wrongly",)

    def text(self) -> str:
        """Return the comparison as a table."""
        both = self.before, self.after
        rows = [(label, *(_figure(getattr(each, name)) for each in both)) for name, label in _ROWS.items()]
        head = (
            f"{self.queries:,} queries, {self.answerable:,} of them with a right one of {self.candidates:,} candidates"
        )
        return f"{head}; {self.ran}\n\n{columns([('', 'before', 'now'), *rows], indent='  ')}"

    def to_dict(self) -> dict[str, object]:
        """Return the comparison for JSON."""
        return {
            "queries": self.queries,
            "answerable": self.answerable,
            "candidates": self.candidates,
            "precision": self.precision,
            "before": dataclasses.asdict(self.before),
            "now": dataclasses.asdict(self.after),
            "warnings": list(self.warnings),
        }


def recalibrate_search(
    matcher: Matcher, queries: IntentTexts, candidates: IntentTexts, *, precision: float
) -> SearchCalibration:
    """Fit the search threshold of a matcher; with a pair head also that of the cosine, for use without the head.

    Args:
        matcher: the matcher, which is not changed.
        queries: texts to search with. A query has no right candidate if its intent is none of the candidates'.
        candidates: texts to search among.
        precision: least share of right answers among those given.

    Raises:
        InvalidPairsError: no query has a right candidate, or there are too few for the precision.
        ConfigError: no threshold reaches the precision.
    """
    known, wanted = set(candidates.intents), np.array(queries.intents, dtype=object)
    answerable = np.array([intent in known for intent in queries.intents], dtype=np.bool_)
    if not answerable.any():
        raise InvalidPairsError(
            f"no query has the intent of a candidate; the first one has {queries.intents[0][:60]!r}, the first "
            f"candidate {candidates.intents[0][:60]!r}"
        )
    found = search(matcher, queries.texts, candidates.texts)
    offered = np.array(candidates.intents, dtype=object)
    right = (offered[found.best.index] == wanted) & answerable
    chosen = fit_search_threshold(found.best.score, right, precision=precision)
    manifest = matcher.manifest
    if found.head is None:
        head = None if manifest.head is None else manifest.head.calibration.search
        manifest = with_search(manifest, cosine=chosen, head=head)
    else:
        by_cosine = (offered[found.cosine.index] == wanted) & answerable
        cosine = threshold_within_reach(found.cosine.score, by_cosine, precision=precision)
        manifest = with_search(manifest, cosine=cosine, head=chosen)
    used = matcher.threshold if matcher.search_threshold is None else matcher.search_threshold
    return SearchCalibration(
        manifest=manifest,
        before=measure_answers(found.best.score, right, answerable, used),
        after=measure_answers(found.best.score, right, answerable, chosen.threshold),
        queries=len(queries),
        answerable=int(answerable.sum()),
        candidates=len(candidates),
        precision=precision,
        ran=f"{matcher.precision} on {matcher.device}",
    )


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
