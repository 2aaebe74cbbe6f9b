"""Evaluation of one system: calibration on the development split, measures and intervals on both splits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation import calibration, metrics, retrieval
from flipkd_sdk.evaluation.bootstrap import Measured, bootstrap_intervals, precision_gain, summary_intervals
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.evaluation.scored import Scored

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flipkd_sdk.evaluation.bootstrap import Interval
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.evaluation.encoders import Encode
    from flipkd_sdk.evaluation.retrieval import RetrievalSet
    from flipkd_sdk.pairs import Pairs

    Score = Callable[[Pairs], NDArray[np.float32]]
    """n pairs → scores (n,), higher for closer texts."""
    _Labelled = tuple[NDArray[np.floating], NDArray[np.integer]]
    """Match probabilities and labels, both (n,)."""

_COST_OF_OTHERS = 0.01
"""F1 on the development pairs that further pairs may cost."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One system on the development split and on the test split if there is one."""

    calibration: Calibration
    cosines: dict[str, NDArray[np.float32]]
    """By split; for the decoder path the probability of its "yes"."""
    labels: dict[str, NDArray[np.integer]]
    measures: dict[str, dict[str, float]]
    """By split: those of `flipkd_sdk.evaluation.metrics.summary`."""
    intervals: dict[str, dict[str, Interval]]
    """By split: 95% bootstrap intervals of the same measures."""
    retrieval: Measured | None = None
    """Measures of `flipkd_sdk.evaluation.retrieval.summary`; None without queries or for a system without vectors."""

    def scored(self, name: str, split: str) -> Scored:
        """Return the probabilities and labels of a split under a name, for plots."""
        return Scored(name, self.calibration.probability(self.cosines[split]), self.labels[split])


def evaluate(
    encode: Encode, dev: Pairs, test: Pairs | None, *, objective: str, queries: RetrievalSet | None = None
) -> Evaluation:
    """Calibrate an encoder on the development pairs and measure it on both splits and on the queries.

    Raises:
        InvalidPairsError: the development pairs do not allow a calibration (see `calibration.fit`).
    """
    evaluation = evaluate_scores(lambda pairs: encoder_cosines(encode, pairs), dev, test, objective=objective)
    return evaluation if queries is None else replace(evaluation, retrieval=evaluate_retrieval(encode, queries))


def evaluate_scores(
    score: Score, dev: Pairs, test: Pairs | None, *, objective: str, beside: Pairs | None = None
) -> Evaluation:
    """Calibrate a scorer of pairs on the development pairs and measure it on both splits.

    Args:
        score: the scorer.
        dev: development pairs, which the curve is fitted on.
        test: test pairs.
        objective: of the threshold, see `calibration.fit`.
        beside: pairs that count for the threshold of the objective ``f1`` beside the development pairs, whose own F1
            they may lower by 0.01 at most.

    Raises:
        InvalidPairsError: as for `evaluate`.
    """
    splits = {"dev": dev} | ({"test": test} if test is not None else {})
    cosines = {name: score(pairs) for name, pairs in splits.items()}
    fitted = calibration.fit(cosines["dev"], dev.label, objective=objective)
    if beside is not None and objective == "f1":
        natural, other = (fitted.probability(values) for values in (cosines["dev"], score(beside)))
        fitted = replace(fitted, threshold=_threshold_beside((natural, dev.label), (other, beside.label)))
    measures, intervals = {}, {}
    for name, pairs in splits.items():
        probability = fitted.probability(cosines[name])
        measures[name] = metrics.summary(probability, pairs.label, fitted.threshold)
        intervals[name] = summary_intervals(probability, pairs.label, fitted.threshold)
    return Evaluation(fitted, cosines, {name: pairs.label for name, pairs in splits.items()}, measures, intervals)


def _threshold_beside(natural: _Labelled, other: _Labelled) -> float:
    """Return the threshold with the best F1 on all pairs that costs the natural ones no more than it may."""
    probability, label = (np.concatenate(parts) for parts in zip(natural, other, strict=True))
    best = calibration.choose_threshold(*natural)
    steps = np.unique(probability)
    thresholds = np.append((steps[1:] + steps[:-1]) / 2, best)
    own, joint = (
        np.array([metrics.at_threshold(values, labels, threshold)["f1"] for threshold in thresholds])
        for values, labels in (natural, (probability, label))
    )
    allowed = own >= own[-1] - _COST_OF_OTHERS
    return float(thresholds[np.argmax(np.where(allowed, joint, -1))])


def evaluate_retrieval(encode: Encode, queries: RetrievalSet) -> Measured:
    """Measure top-1 and MRR with bootstrap intervals over the queries; each distinct text is encoded once."""
    texts = queries.texts
    index = {text: i for i, text in enumerate(texts)}
    vectors = encode(texts)
    sides = (queries.queries, queries.exemplars)
    query_vectors, exemplar_vectors = (vectors[[index[text] for text in side.texts]] for side in sides)
    ranks = retrieval.first_ranks(query_vectors, exemplar_vectors, *(side.intents for side in sides))
    return Measured(retrieval.summary(ranks), bootstrap_intervals(retrieval.summary, ranks))


def advantage(one: Evaluation, other: Evaluation, split: str) -> tuple[float, Interval]:
    """Return one system's average precision minus another's on the same pairs, and the interval of the difference."""
    first, second = (system.scored("", split).probability for system in (one, other))
    return precision_gain([(first, second)], one.labels[split])
