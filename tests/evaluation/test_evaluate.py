from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny_data import encode
from tiny_models import tiny_pairs

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation import calibration, metrics
from flipkd_sdk.evaluation.bootstrap import Interval, summary_intervals
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.evaluation.evaluate import evaluate, evaluate_retrieval, evaluate_scores
from flipkd_sdk.evaluation.retrieval import IntentTexts, RetrievalSet
from flipkd_sdk.pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_calibration_and_threshold_come_from_the_development_pairs_alone() -> None:
    dev, test = tiny_pairs(40, 0), tiny_pairs(30, 1)
    spoilt = Pairs(test.a, test.b, 1 - test.label)
    one, other = (evaluate(encode, dev, pairs, objective="f1") for pairs in (test, spoilt))
    assert one.calibration == other.calibration == calibration.fit(encoder_cosines(encode, dev), dev.label)
    assert one.measures["dev"] == other.measures["dev"]
    assert one.measures["test"]["average_precision"] > other.measures["test"]["average_precision"]
    probability = one.calibration.probability(one.cosines["test"])
    assert one.measures["test"] == metrics.summary(probability, test.label, one.calibration.threshold)
    assert np.array_equal(one.labels["test"], test.label)
    assert one.intervals["test"] == summary_intervals(probability, test.label, one.calibration.threshold)
    assert one.intervals["dev"] == other.intervals["dev"]
    assert one.retrieval is None


def test_the_threshold_is_the_best_on_the_development_pairs_and_may_be_a_bad_one_for_the_test_pairs() -> None:
    label = np.array([0, 0, 1, 1], np.int8)
    dev, test = (Pairs(("a",) * 4, (name,) * 4, label) for name in ("dev", "test"))
    scores = {"dev": [0.1, 0.2, 0.8, 0.9], "test": [0.81, 0.82, 0.91, 0.92]}
    found = evaluate_scores(lambda pairs: np.array(scores[pairs.b[0]], np.float32), dev, test, objective="f1")
    assert found.measures["dev"]["f1"] == 1.0
    assert found.measures["test"]["average_precision"] == 1.0
    assert (found.measures["test"]["accuracy"], found.measures["test"]["recall"]) == (0.5, 1.0)


def test_retrieval_is_that_of_the_vectors_and_each_text_is_encoded_once() -> None:
    exemplars = IntentTexts(("aaa", "eee", "ooo", "aaa"), ("a", "e", "o", "a"))
    queries = IntentTexts(("aae", "oee", "aaae", "ooe"), ("a", "o", "e", "e"))
    seen: list[str] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return encode(texts)

    found = evaluate_retrieval(counting, RetrievalSet(queries, exemplars))
    assert sorted(seen) == sorted(set(queries.texts + exemplars.texts))
    assert found.values == pytest.approx({"top1": 0.25, "mrr": (1 + 1 / 2 + 1 / 3 + 1 / 2) / 4})
    assert found.intervals["top1"] == Interval(0.0, 0.75)
    whole = evaluate(encode, tiny_pairs(40), None, objective="f1", queries=RetrievalSet(queries, exemplars))
    assert whole.retrieval == found


def test_without_test_pairs_there_is_one_split() -> None:
    evaluation = evaluate(encode, tiny_pairs(40, 0), None, objective="precision>=0.5")
    assert evaluation.measures.keys() == evaluation.cosines.keys() == evaluation.labels.keys() == {"dev"}
    assert evaluation.calibration.objective == "precision>=0.5"


def test_development_pairs_that_allow_no_calibration_are_refused() -> None:
    dev = tiny_pairs(40, 0)
    with pytest.raises(InvalidPairsError, match="does not rise with the label"):
        evaluate(encode, Pairs(dev.a, dev.b, 1 - dev.label), None, objective="f1")


@pytest.mark.parametrize(
    ("beside", "least", "most"),
    [
        ([0.62, 0.66, 0.69], 0.69, 0.7),  # between the classes: the threshold rises above them
        ([0.97, 0.98, 0.99], 0.3, 0.7),  # above all matches: the development pairs keep their F1
    ],
)
def test_further_pairs_move_the_threshold_as_far_as_the_development_pairs_allow(
    beside: list[float], least: float, most: float
) -> None:
    cosines = {"dev": np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), "further": np.array(beside)}
    dev = Pairs(("a",) * 6, ("dev",) * 6, np.array([0, 0, 0, 1, 1, 1], np.int8))
    further = Pairs(("a",) * 3, ("further",) * 3, np.zeros(3, np.int8))

    def score(pairs: Pairs) -> np.ndarray:
        return cosines[pairs.b[0]].astype(np.float32)

    found = evaluate_scores(score, dev, None, objective="f1", beside=further)
    edges = found.calibration.probability(np.array([least, most], np.float32))
    assert edges[0] < found.calibration.threshold <= edges[1]
    assert found.measures["dev"]["f1"] == 1
