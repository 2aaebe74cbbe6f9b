"""Quality of an encoder: cosines of pairs, calibration on the development split, measures with their intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flipkd_sdk.evaluation import calibration, metrics, retrieval
from flipkd_sdk.evaluation.bootstrap import Measured, bootstrap_intervals, precision_gain, summary_intervals
from flipkd_sdk.evaluation.scored import Scored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.evaluation.bootstrap import Interval
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.evaluation.retrieval import RetrievalSet
    from flipkd_sdk.pairs import Pairs

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]
    """n texts → unit vectors (n, d)."""
    Score = Callable[[Pairs], NDArray[np.float32]]
    """n pairs → scores (n,), higher for closer texts."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One system on the development split and, where there is one, the test split."""

    calibration: Calibration
    cosines: dict[str, NDArray[np.float32]]
    """By split; of the decoder path the probability of its "yes"."""
    labels: dict[str, NDArray[np.integer]]
    measures: dict[str, dict[str, float]]
    """By split: those of `flipkd_sdk.evaluation.metrics.summary`."""
    intervals: dict[str, dict[str, Interval]]
    """By split: 95% bootstrap intervals of the same."""
    retrieval: Measured | None = None
    """Those of `flipkd_sdk.evaluation.retrieval.summary`, where there are queries and the system encodes texts."""

    def scored(self, name: str, split: str) -> Scored:
        """A split's probabilities and labels under a name, as plots want them."""
        return Scored(name, self.calibration.probability(self.cosines[split]), self.labels[split])


def pair_cosines(encode: Encode, pairs: Pairs) -> NDArray[np.float32]:
    """Cosine of each pair, float32 (n,); each distinct text is encoded once."""
    return _cosines(encode(pairs.texts), pairs)


def _cosines(vectors: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float32]:
    position = {text: i for i, text in enumerate(pairs.texts)}
    a, b = (vectors[[position[text] for text in side]] for side in (pairs.a, pairs.b))
    return np.einsum("ij,ij->i", a, b)  # type: ignore[no-any-return]


def development_measures(encode: Encode, pairs: Pairs, teacher: NDArray[np.float32] | None = None) -> dict[str, float]:
    """What is watched of an encoder while it trains: its average precision and its agreement with the teacher.

    Args:
        encode: the encoder as it stands.
        pairs: the development pairs.
        teacher: the teacher's vectors of ``pairs.texts``; None leaves ``agreement`` out.
    """
    vectors = encode(pairs.texts)
    measures = {"average_precision": metrics.average_precision(_cosines(vectors, pairs), pairs.label)}
    return measures if teacher is None else measures | {"agreement": agreement(vectors, teacher)}


def agreement(student: NDArray[np.float32], teacher: NDArray[np.float32]) -> float:
    """How far two encoders agree on which of n texts are close: the correlation of their cosines of all i ≠ j.

    No label enters, and all n(n−1) cosines do, so it moves far less by chance than a measure of n / 2 labelled pairs.
    Sums over the cosines come from the matrices ZᵀZ, ZᵀT and TᵀT, for Σᵢⱼ (zᵢ·zⱼ)(tᵢ·tⱼ) = ‖ZᵀT‖².

    Args:
        student: unit vectors z, float32 (n, r).
        teacher: unit vectors t of the same texts, float32 (n, d); d and r may differ.

    Returns:
        Pearson's correlation, in [−1, 1]; 0 where one of them tells no texts apart.
    """
    # Unit length in double precision, or the n cosines of i = j are not the 1 that is taken off.
    z, t = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (student.astype(np.float64), teacher.astype(np.float64))
    )
    count = len(z) * (len(z) - 1)

    def mean(x: NDArray[np.float64]) -> float:
        return float(np.square(x.sum(axis=0)).sum() - len(x)) / count

    def covariance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return float(np.square(x.T @ y).sum() - len(x)) / count - mean(x) * mean(y)

    of_student, of_teacher = covariance(z, z), covariance(t, t)
    flat = min(of_student, of_teacher) < 1e-12
    return 0.0 if flat else covariance(z, t) / float(np.sqrt(of_student * of_teacher))


def evaluate(
    encode: Encode, dev: Pairs, test: Pairs | None, *, objective: str, queries: RetrievalSet | None = None
) -> Evaluation:
    """Calibrate on the development pairs and measure on both splits, and on the queries if there are any.

    Raises:
        InvalidPairsError: the development pairs do not allow a calibration (see `calibration.fit`).
    """
    found = evaluate_scores(lambda pairs: pair_cosines(encode, pairs), dev, test, objective=objective)
    return found if queries is None else replace(found, retrieval=evaluate_retrieval(encode, queries))


def evaluate_scores(score: Score, dev: Pairs, test: Pairs | None, *, objective: str) -> Evaluation:
    """The same for anything that scores pairs, such as the decoder path.

    Raises:
        InvalidPairsError: as `evaluate`.
    """
    splits = {"dev": dev} | ({"test": test} if test is not None else {})
    cosines = {name: score(pairs) for name, pairs in splits.items()}
    fitted = calibration.fit(cosines["dev"], dev.label, objective=objective)
    measures, intervals = {}, {}
    for name, pairs in splits.items():
        probability = fitted.probability(cosines[name])
        measures[name] = metrics.summary(probability, pairs.label, fitted.threshold)
        intervals[name] = summary_intervals(probability, pairs.label, fitted.threshold)
    return Evaluation(fitted, cosines, {name: pairs.label for name, pairs in splits.items()}, measures, intervals)


def evaluate_retrieval(encode: Encode, queries: RetrievalSet) -> Measured:
    """Top-1 and MRR of the queries among the exemplars, with intervals over the queries; each text is encoded once."""
    texts = queries.texts
    position = {text: i for i, text in enumerate(texts)}
    vectors = encode(texts)
    sides = (queries.queries, queries.exemplars)
    asked, offered = (vectors[[position[text] for text in side.texts]] for side in sides)
    ranks = retrieval.first_ranks(asked, offered, *(side.intents for side in sides))
    return Measured(retrieval.summary(ranks), bootstrap_intervals(retrieval.summary, ranks))


def advantage(one: Evaluation, other: Evaluation, split: str) -> tuple[float, Interval]:
    """Average precision of one system minus another's on the same pairs, with the interval of the difference."""
    first, second = (system.scored("", split).probability for system in (one, other))
    return precision_gain([(first, second)], one.labels[split])


def figures(systems: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Measures and retrieval with their intervals by system, in the fields of `RunResult`."""
    retrieval = {name: system.retrieval for name, system in systems.items() if system.retrieval is not None}
    return {
        "measures": {name: system.measures for name, system in systems.items()},
        "intervals": {
            name: {split: _bounds(found) for split, found in system.intervals.items()}
            for name, system in systems.items()
        },
        "retrieval": {name: dict(found.values) for name, found in retrieval.items()},
        "retrieval_intervals": {name: _bounds(found.intervals) for name, found in retrieval.items()},
    }


def _bounds(intervals: Mapping[str, Interval]) -> dict[str, tuple[float, float]]:
    return {name: (interval.low, interval.high) for name, interval in intervals.items()}
