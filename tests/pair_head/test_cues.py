"""Cues of the pair head: numbers are compared as numbers, negations and names are seen, form is told from content."""

import numpy as np
import pytest

from flipkd_sdk.contrast import load_pack
from flipkd_sdk.pair_head.cues import CUES, EARLIER_CUES, CueReader, pair_cues, weight_of_head

NAMES = (
    "share a number", "different numbers", "one has a number", "share a name", "different names", "one has a name",
    "one is negated", "both are negated", "other order", "same form",
)  # fmt: skip


@pytest.fixture(scope="module")
def english():
    pack = load_pack("en")
    return CueReader(pack.negators, pack.numbers.values)


def seen(reader, a, b):
    forward, backward = (pair_cues([reader(one)], [reader(other)])[0] for one, other in ((a, b), (b, a)))
    assert forward.tolist() == backward.tolist()
    return {name for name, value in zip(NAMES, forward[:EARLIER_CUES], strict=True) if value}


def weight(reader, a, b):
    forward, backward = (weight_of_head(pair_cues([reader(x)], [reader(y)]))[0] for x, y in ((a, b), (b, a)))
    assert forward == backward
    return float(forward)


@pytest.mark.parametrize(
    ("a", "b", "cues"),
    [
        ("pay 100 EUR", "pay 500 EUR", {"different numbers", "share a name"}),
        ("pay 1,000 euros", "pay 1000 euros", {"share a number", "same form"}),
        ("pay 1.50", "pay 1.5 now", {"share a number"}),
        ("pay 10.50", "pay 1050", {"different numbers"}),
        ("pay", "pay 5", {"one has a number"}),
        ("from 1 to 2", "from 2", {"share a number", "one has a number"}),
        ("My card!", "my card", {"same form"}),
        ("my card", "my cards", set()),
        ("５００ 元", "500元", {"share a number", "same form"}),
        ("", "?", {"same form"}),
        ("two tablets", "2 tablets", {"share a number"}),
        ("two hundred and fifty pounds", "250 pounds", {"share a number"}),
        ("a loan of 20k", "a loan of twenty thousand", {"share a number"}),
        ("five thousand two hundred", "5,200", {"share a number"}),
        ("1.5 million", "1,500,000", {"share a number"}),
        ("twice a day", "three times a day", {"different numbers"}),
        ("one account", "an account", set()),
        ("my card works", "my card doesn’t work", {"one is negated"}),
        ("I no longer pay", "I never pay", {"both are negated"}),
        ("I can't not pay", "I pay", set()),
        ("a bill from Siemens", "a bill from Bosch", {"different names"}),
        ("a bill from Siemens", "siemens sent a bill", {"share a name"}),
        ("Müller GmbH", "Schmidt AG", {"different names"}),
        ("How Do I Reset My PIN", "how do I reset my password", set()),
        ("the sender pays the buyer", "the buyer pays the sender", {"other order"}),
        ("I pay", "I'm paying", set()),
    ],
)
def test_cues_of_a_pair_in_either_order(english, a, b, cues):
    assert seen(english, a, b) == cues


def test_without_a_language_only_digits_and_capitals_count():
    assert seen(CueReader(), "I never paid two", "I paid three") == set()
    assert seen(CueReader(), "I paid 2", "I paid 3") == {"different numbers"}


def test_chinese_negations_need_no_spaces():
    pack = load_pack("zh")
    assert seen(CueReader(pack.negators, pack.numbers.values), "我能还款", "我不能还款") == {"one is negated"}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("block my card", "freeze my account", 0),  # 1 of 5 words
        ("my card is blocked", "my card was frozen", 1 / 6),  # 2 of 6
        ("my card was blocked", "my card was not blocked", 1),  # 4 of 5
        ("20 EUR", "200 EUR", 1),
        ("a bill from Siemens", "what did Bosch send me", 1),
        ("My card!", "my card", 0),
        ("lost card", "card lost", 1),
        ("", "my card", 0),
    ],
)
def test_the_head_counts_where_texts_share_words_or_numbers_or_names_differ(english, a, b, expected):
    assert weight(english, a, b) == pytest.approx(expected, abs=1e-6)


def test_signs_of_a_language_without_spaces_are_words():
    pack = load_pack("zh")
    assert weight(CueReader(pack.negators, pack.numbers.values), "我能还款", "我不能还款") == 1


def test_a_head_of_an_earlier_release_counts_for_all_pairs_but_those_of_one_form():
    cues = np.zeros((2, EARLIER_CUES), np.float32)
    cues[1, -1] = 1
    assert weight_of_head(cues).tolist() == [1, 0]


@pytest.mark.parametrize("text", ["9" * 5000, "9 " + "million " * 5000, "hundred " * 5000, "1.2.3,4,5.6", "٣ ٤"])
def test_odd_numbers_are_read(english, text):
    assert pair_cues([english(text)], [english(text)])[0][EARLIER_CUES - 1] == 1


def test_no_pairs_have_no_cues():
    assert pair_cues([], []).shape == (0, CUES)
