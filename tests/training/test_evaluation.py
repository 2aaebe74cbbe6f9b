from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import encode
from tiny_models import tiny_pairs

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation import calibration, metrics
from flipkd_sdk.evaluation.bootstrap import Interval, summary_intervals
from flipkd_sdk.evaluation.retrieval import IntentTexts, RetrievalSet
from flipkd_sdk.pairs import Pairs
from flipkd_sdk.training.evaluation import (
    agreement,
    development_measures,
    evaluate,
    evaluate_retrieval,
    evaluate_scores,
    pair_cosines,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_cosines_are_those_of_the_pairs_and_each_text_is_encoded_once() -> None:
    pairs = Pairs(("one", "two", "one"), ("two", "three", "three"), np.array([1, 0, 1], np.int8))
    seen: list[str] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return encode(texts)

    cosines = pair_cosines(counting, pairs)
    expected = [float(encode([a])[0] @ encode([b])[0]) for a, b in zip(pairs.a, pairs.b, strict=True)]
    assert cosines == pytest.approx(expected, abs=1e-6)
    assert sorted(seen) == ["one", "three", "two"]


def test_development_is_measured_by_the_labels_and_by_the_teacher_with_each_text_encoded_once() -> None:
    pairs = tiny_pairs(20)
    seen: list[str] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return encode(texts)

    teacher = unit(np.random.default_rng(0).standard_normal((len(pairs.texts), 8)))
    expected = metrics.average_precision(pair_cosines(encode, pairs), pairs.label)
    assert development_measures(counting, pairs) == {"average_precision": expected}
    assert len(seen) == len(set(seen))
    assert development_measures(encode, pairs, teacher) == {
        "average_precision": expected,
        "agreement": agreement(encode(pairs.texts), teacher),
    }


@given(st.integers(2, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 10_000))
def test_agreement_is_the_correlation_of_the_cosines_of_all_other_texts(n: int, r: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (unit(random.standard_normal((n, width))) for width in (r, d))
    apart = ~np.eye(n, dtype=bool)
    cosines = [(x.astype(np.float64) @ x.T)[apart] for x in (one, other)]
    found = agreement(one, other)
    if min(values.std() for values in cosines) > 1e-3:
        assert found == pytest.approx(np.corrcoef(*cosines)[0, 1], abs=1e-5)
        assert agreement(one, one) == pytest.approx(1.0)
    assert abs(found) <= 1 + 1e-9


def test_who_tells_no_texts_apart_agrees_with_nobody() -> None:
    same, apart = np.tile(np.float32([0.6, 0.8]), (4, 1)), np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    assert agreement(same, apart) == agreement(apart, same) == 0.0


def test_calibration_and_threshold_come_from_the_development_pairs_alone() -> None:
    dev, test = tiny_pairs(40, 0), tiny_pairs(30, 1)
    spoilt = Pairs(test.a, test.b, 1 - test.label)
    one, other = (evaluate(encode, dev, pairs, objective="f1") for pairs in (test, spoilt))
    assert one.calibration == other.calibration == calibration.fit(pair_cosines(encode, dev), dev.label)
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
