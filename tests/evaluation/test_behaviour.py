"""Pass rates by kind."""

import json

import numpy as np
import pytest

from flipkd_sdk.contrast import ContrastPair, read_contrast_pairs
from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.evaluation.behaviour import check_behaviour

PAIRS = (
    ContrastPair("pay 5", "pay 50", 0, "amount"),
    ContrastPair("pay 6", "pay 60", 0, "amount"),
    ContrastPair("I pay", "I do not pay", 0, "negation"),
    ContrastPair("I can't", "I cannot", 1, "contraction"),
    ContrastPair("PAY", "pay", 1, "case"),
)
PROBABILITY = {"pay 5": 0.9, "pay 6": 0.6, "I pay": 0.1, "I can't": 0.5, "PAY": 0.2}


def score(pairs):
    return np.array([PROBABILITY[a] for a, _ in pairs], np.float32)


def test_non_matches_pass_below_the_threshold_and_matches_from_it():
    behaviour = check_behaviour(PAIRS, score, threshold=0.5)
    found = {kind.kind: (kind.label, kind.pairs, kind.passed) for kind in behaviour.kinds}
    assert found == {"amount": (0, 2, 0), "negation": (0, 1, 1), "case": (1, 1, 0), "contraction": (1, 1, 1)}
    assert (behaviour.pairs, behaviour.pass_rate) == (5, 0.4)
    assert behaviour.pass_rate_of(0) == pytest.approx(1 / 3)
    assert behaviour.pass_rate_of(1) == 0.5
    assert behaviour.lowest.kind == "amount"


def test_failed_examples_are_the_furthest_from_the_threshold():
    amount = check_behaviour(PAIRS, score, threshold=0.5, examples=1).kinds[0]
    assert [(pair.text_a, pair.text_b) for pair in amount.failures] == [("pay 5", "pay 50")]
    assert all(not kind.failures for kind in check_behaviour(PAIRS, score, threshold=0.5, examples=0).kinds)


def test_average_precision_needs_both_labels():
    assert check_behaviour(PAIRS, score, threshold=0.5).average_precision == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert check_behaviour(PAIRS[:2], score, threshold=0.5).average_precision is None


def test_json_has_every_figure_and_example():
    data = json.loads(json.dumps(check_behaviour(PAIRS, score, threshold=0.5).to_dict(), allow_nan=False))
    assert data["pairs"] == 5
    assert data["kinds"][0]["failures"][0] == {
        "text_a": "pay 5",
        "text_b": "pay 50",
        "probability": pytest.approx(0.9),
    }


def test_the_table_has_a_line_for_each_kind_and_failed_example():
    table = check_behaviour(PAIRS, score, threshold=0.5).table()
    assert table.splitlines()[0].split() == ["kind", "expected", "pairs", "passed", "rate"]
    assert "0.900  pay 5 | pay 50" in table
    assert table.splitlines()[-1].split() == ["all", "pairs", "5", "2", "40.0%"]
    assert "pay 50" not in check_behaviour(PAIRS, score, threshold=0.5).table(examples=False)


def test_a_kind_with_both_labels_is_reported_by_label():
    pairs = [ContrastPair("pay 5", "b", 0, "x"), ContrastPair("pay 6", "b", 1, "x")]
    assert [kind.label for kind in check_behaviour(pairs, score, threshold=0.5).kinds] == [0, 1]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_0_1_is_refused(threshold):
    with pytest.raises(ConfigError, match=r"expected a probability in \[0, 1\]"):
        check_behaviour(PAIRS, score, threshold=threshold)


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="examples=-1"):
        check_behaviour(PAIRS, score, threshold=0.5, examples=-1)
    with pytest.raises(InvalidPairsError, match="no pairs"):
        check_behaviour([], score, threshold=0.5)
    with pytest.raises(InvalidPairsError, match=r"5 pairs have scores of shape \(1,\)"):
        check_behaviour(PAIRS, lambda pairs: [0.5], threshold=0.5)
    with pytest.raises(InvalidPairsError, match="finite"):
        check_behaviour(PAIRS, lambda pairs: [float("nan")] * 5, threshold=0.5)


def test_pairs_with_kinds_are_read(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('kind,text_a,text_b,label\namount,"pay 5, now",pay 50,0\ncase,PAY,pay,1\n', encoding="utf-8")
    assert read_contrast_pairs(path) == (
        ContrastPair("pay 5, now", "pay 50", 0, "amount"),
        ContrastPair("PAY", "pay", 1, "case"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text_a,text_b,label\na,b,1\n", "kind"),
        ("text_a,text_b,label,kind\na,b,2,x\n", "pairs.csv:2: column 'label': label '2'; expected 0 or 1"),
        ("text_a,text_b,label,kind\na,b,1,\n", "pairs.csv:2: column 'kind': empty"),
        ("text_a,text_b,label,kind\n", "no pairs"),
    ],
)
def test_unusable_files_are_refused(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidPairsError, match=message):
        read_contrast_pairs(path)
