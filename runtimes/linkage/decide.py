"""Scores of the pairs that a search proposes, as `Matcher.score` gives them."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts, distinct_of_pairs
from flipkd_sdk.runtimes.encoding.vector_cache import VectorCache
from flipkd_sdk.runtimes.options import check_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.runtimes.linkage.near_pairs import Pairs
    from flipkd_sdk.runtimes.matcher import Matcher

_logger = logging.getLogger("flipkd_sdk")

NEIGHBOURS = 10
"""Pairs of a text that are scored, as in `Matcher.rank`."""
_CHUNK_PAIRS = 2048
_PART_TEXTS = 1024
_TOKEN_BYTES = 640 << 20
"""Memory for tokens: those of some 100,000 short texts."""
_MARGIN = 2.0
"""Log-odds by which the cosine may judge a pair lower than the pair head that decides on it."""
_OTHER_MARGIN = 4.0
"""The same where another matcher searches."""
_CERTAIN = 1e-7
"""Distance of a score from 0 and 1 in its log-odds; float32 has no finer ones near 1."""


class Decider(Protocol):
    """Computation of scores that searches and groups need: a matcher's, here or elsewhere."""

    @property
    def calibration(self) -> Calibration:
        """Map from cosines to match probabilities."""

    @property
    def threshold(self) -> float:
        """Least score of a match among pairs."""

    @property
    def search_threshold(self) -> float | None:
        """Least score of a match in a search; None if none was fitted."""

    @property
    def has_head(self) -> bool:
        """True if more than the cosine of the search decides on pairs: a pair head, or another matcher."""

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the match probability of each pair, in order."""

    def never_match(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return True for each text whose pairs all score 0.0."""


class LocalDecider:
    """Decider with a matcher of this process.

    It keeps the tokens of the texts that it encodes, as far as they fit, because a pair head reads those of each text
    in many pairs.

    Args:
        matcher: decides on pairs.
        searching: another matcher whose vectors propose the pairs, such as a static one.
    """

    def __init__(self, matcher: Matcher, searching: Matcher | None = None) -> None:
        self.matcher = matcher
        self.searching = matcher if searching is None else searching
        self._tokens = VectorCache(None, _TOKEN_BYTES)
        self.calibration: Calibration = self.searching.calibration
        self.threshold = matcher.threshold
        self.search_threshold = matcher.search_threshold
        self.has_head = matcher.has_head or searching is not None
        self.margin = _MARGIN if searching is None else _OTHER_MARGIN

    def encode(self, distinct: DistinctTexts) -> NDArray[np.float32]:
        """Return the unit vectors of ``distinct.texts``; raise the errors of `Matcher.encode`."""
        scorer, texts = self.matcher.scorer, distinct.texts
        if self.searching is not self.matcher or not self.has_head:
            return self.searching.scorer.encode_distinct(distinct)
        vectors = np.empty((len(texts), self.matcher.dimension), dtype=np.float32)
        # In parts, because the tokens of all texts may not fit in memory.
        for start in range(0, len(texts), _PART_TEXTS):
            part = texts[start : start + _PART_TEXTS]
            named = DistinctTexts(part, np.arange(len(part)), functools.partial(_name_from, distinct, start))
            vectors[start : start + len(part)] = scorer.encode_pairs(named, cache=self._tokens).vectors
        return vectors

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.float32]:
        """Implement `Decider.score_pairs`."""
        scorer, distinct = self.matcher.scorer, distinct_of_pairs(pairs)
        encoded = scorer.encode_pairs(distinct, cache=self._tokens)
        return scorer.pair_scores(distinct.texts, encoded, distinct.index[0::2], distinct.index[1::2])

    def never_match(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Implement `Decider.never_match`."""
        return self.matcher.scorer.never_match(texts)


def _name_from(distinct: DistinctTexts, start: int, text: int) -> str:
    return distinct.name_of(start + text)


def least_score(decider: Decider, threshold: float | None) -> float:
    """Return the least score of a match: the given one, else the matcher's for searches, else that for pairs.

    Raises:
        ConfigError: the threshold is not a number in [0, 1].
    """
    if threshold is not None:
        check_number("threshold", threshold, least=0.0)
        return float(threshold)
    if decider.search_threshold is not None:
        return decider.search_threshold
    _logger.warning(
        "the matcher has no search threshold, so the threshold of pairs is used; it finds too many matches in tables, "
        "so set a threshold or export the matcher again"
    )
    return decider.threshold


def log_odds(score: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Return the log-odds of scores, finite for 0 and 1 too."""
    likely = np.clip(np.asarray(score, dtype=np.float64), _CERTAIN, 1 - _CERTAIN)
    odds: NDArray[np.float64] = np.log(likely) - np.log1p(-likely)
    return odds


def least_cosine(decider: Decider, threshold: float) -> float:
    """Return the cosine from which on a pair is scored."""
    # Another matcher's cosine is further off than that of the matcher which decides.
    margin = getattr(decider, "margin", _MARGIN) if decider.has_head else 1e-4
    calibration = decider.calibration
    return max(-1.0, float((log_odds(threshold) - margin - calibration.intercept) / calibration.slope))


def decided(
    decider: Decider,
    a_texts: Sequence[str],
    b_texts: Sequence[str],
    pairs: Pairs,
    progress: Callable[[str, int, int], None] | None,
) -> NDArray[np.float32]:
    """Return the score of each pair, shape (n,): the pair head's, or without one that of the cosine."""
    if not decider.has_head:
        return decider.calibration.probability(pairs.cosine)
    scores = np.empty(len(pairs.a), dtype=np.float32)
    # A pool of workers takes more at a time.
    step: int = getattr(decider, "chunk_pairs", _CHUNK_PAIRS)
    for start in range(0, len(scores), step):
        chunk = slice(start, start + step)
        a, b = pairs.a[chunk].tolist(), pairs.b[chunk].tolist()
        scores[chunk] = decider.score_pairs((a_texts[i], b_texts[j]) for i, j in zip(a, b, strict=True))
        if progress is not None:
            progress("scoring", min(start + step, len(scores)), len(scores))
    return scores
