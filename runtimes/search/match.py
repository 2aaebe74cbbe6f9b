"""`Match`: one result of a search, after the pair head has decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.runtimes.search.exact import Found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flipkd_sdk.runtimes.scorer import Scorer
    from flipkd_sdk.runtimes.search.exact import Ranking


@dataclass(frozen=True, slots=True)
class Match:
    """One candidate found for a query."""

    index: int
    """Index of the candidate, from 0."""
    text: str
    score: float
    """Match probability in [0, 1]."""


def matches(found: Found, texts: Sequence[str]) -> list[Match]:
    """Return the result of a search with the candidates' texts."""
    return [
        Match(index, texts[index], score)
        for index, score in zip(found.indices.tolist(), found.scores.tolist(), strict=True)
    ]


def decide(scorer: Scorer, query: str | None, found: Found, texts: Sequence[str], ranking: Ranking) -> list[Match]:
    """Return the best candidates of those that a search proposes, by the scores of pairs where ``rescore`` is set.

    Args:
        scorer: of the matcher that decides.
        query: the query's text; None if only its vector is known, which leaves the search's scores.
        found: from a search by ``ranking.proposing``.
        texts: of all candidates.
        ranking: the options.
    """
    if not ranking.rescore:
        return matches(found, texts)
    if query is not None and len(found.indices):
        scores = scorer.scores_of(query, [texts[index] for index in found.indices])
        # Equal scores by index, as in the search.
        order = np.lexsort((found.indices, -scores))
        found = Found(found.indices[order], scores[order])
    kept = slice(ranking.top_k)
    found = Found(found.indices[kept], found.scores[kept])
    if ranking.score_cutoff is not None:
        high = found.scores >= ranking.score_cutoff
        found = Found(found.indices[high], found.scores[high])
    return matches(found, texts)
