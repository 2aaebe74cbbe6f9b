"""Rules that hold for contrast pairs of every kind."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipkd_sdk.contrast import contrast_pairs, detect_language, load_pack
from flipkd_sdk.errors import ConfigError

PACKS = {language: load_pack(language) for language in ("en", "zh")}
SENTENCES = [
    "I want to send 500 EUR from my savings to my checking account on Monday.",
    "My card was not charged twice in March, please help!",
    "Why can't I open the app since yesterday?",
    "Block my card",
    "It takes two weeks until my card arrives.",
    "How do I pay 20 mg at 5 pm?",
    "我想开通花呗，这个月还500元可以吗？",
    "为什么不能提前还款",
]
texts = st.lists(st.one_of(st.sampled_from(SENTENCES), st.text(max_size=60)), max_size=12)


def normalized(text):
    return " ".join(text.split())


@settings(max_examples=25, deadline=None)
@given(texts=texts, language=st.sampled_from(["en", "zh"]), seed=st.integers(0, 1000))
def test_pairs_differ_are_made_once_and_again_with_the_same_seed(texts, language, seed):
    pack = PACKS[language]
    made = contrast_pairs(texts, pack, per_kind=3, seed=seed)
    assert made == contrast_pairs(iter(texts), pack, per_kind=3, seed=seed)
    assert len({frozenset((pair.text_a, pair.text_b)) for pair in made.pairs}) == len(made)
    assert all(count <= 3 for count in made.counts.values())
    for pair in made.pairs:
        assert normalized(pair.text_a) != normalized(pair.text_b)
        assert pair.label == pack.labels[pair.kind]
        assert (pair.text_a in texts) or (pair.text_b in texts)
        if pair.label == 0:
            assert pair.text_a.casefold() != pair.text_b.casefold()


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=()), max_size=80), max_size=5))
def test_any_unicode_text_is_accepted(texts):
    for pack in PACKS.values():
        contrast_pairs(texts, pack, per_kind=2, seed=0)
    assert detect_language(texts) in (None, "en", "zh")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100), data=st.data())
def test_a_labelled_match_is_left_out_in_both_directions(seed, data):
    made = contrast_pairs(SENTENCES, PACKS["en"], per_kind=2, seed=seed)
    pair = data.draw(st.sampled_from([pair for pair in made.pairs if pair.kind != "case"]))
    for match in itertools.permutations((pair.text_a, pair.text_b)):
        again = contrast_pairs(SENTENCES, PACKS["en"], per_kind=2, seed=seed, labelled_matches=[match])
        assert frozenset(match) not in {frozenset((other.text_a, other.text_b)) for other in again.pairs}
        assert again.left_out >= 1


def test_a_match_by_way_of_a_third_text_is_left_out():
    texts = ["How do I open an account?"]
    matches = [("how do I  open an account?", "account"), ("account", "How do I close an account?")]
    made = contrast_pairs(texts, PACKS["en"], per_kind=5, seed=0, kinds=["antonym"], labelled_matches=matches)
    assert (len(made), made.left_out) == (0, 1)


def test_no_labelled_matches_leave_nothing_out():
    assert contrast_pairs(SENTENCES, PACKS["en"], per_kind=5, seed=0).left_out == 0


def test_kinds_are_balanced_and_switching_one_off_leaves_the_others():
    texts = [f"I sent {i} EUR from Bonn to Rome on Monday" for i in range(20, 60)]
    every = contrast_pairs(texts, PACKS["en"], per_kind=10, seed=1)
    assert {every.counts[kind] for kind in ("amount", "weekday", "direction", "case")} == {10}
    some = contrast_pairs(texts, PACKS["en"], per_kind=10, seed=1, kinds=["amount", "weekday"])
    assert some.pairs == tuple(pair for pair in every.pairs if pair.kind in ("amount", "weekday"))


def test_as_many_different_texts_as_possible_are_used():
    texts = [f"I paid on Monday for item number {word}" for word in ("a", "b", "c", "d", "e")]
    pairs = contrast_pairs(texts, PACKS["en"], per_kind=5, seed=0, kinds=["weekday"]).pairs
    assert {text for pair in pairs for text in (pair.text_a, pair.text_b)} >= set(texts)


def test_both_sides_are_changed():
    texts = [f"I paid {i} EUR" for i in range(20, 60)]
    pairs = contrast_pairs(texts, PACKS["en"], per_kind=40, seed=0, kinds=["amount"]).pairs
    assert 5 < sum(pair.text_a in texts for pair in pairs) < 40


def test_long_and_blank_texts_are_left_out():
    assert len(contrast_pairs(["I paid 20 EUR " * 40, "  ", ""], PACKS["en"], per_kind=5, seed=0)) == 0


def test_examples_are_the_first_of_each_kind():
    made = contrast_pairs(SENTENCES, PACKS["en"], per_kind=3, seed=0)
    examples = made.examples(1)
    assert sorted(pair.kind for pair in examples) == sorted(made.counts)
    assert set(examples) <= set(made.pairs)


def test_a_second_change_leaves_the_label_and_differs_more():
    once = contrast_pairs(SENTENCES, PACKS["en"], per_kind=3, seed=0, kinds=["negation", "amount"])
    twice = contrast_pairs(SENTENCES, PACKS["en"], per_kind=3, seed=0, kinds=["negation", "amount"], second_change=1.0)
    assert twice.counts == once.counts
    assert not set(once.pairs) & set(twice.pairs)
    for pair in twice.pairs:
        assert pair.label == 0
        assert (pair.text_a in SENTENCES) != (pair.text_b in SENTENCES)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_second_change_undoes_no_change(seed):
    for language, pack in PACKS.items():
        made = contrast_pairs(SENTENCES, pack, per_kind=3, seed=seed, second_change=0.7)
        assert made == contrast_pairs(SENTENCES, pack, per_kind=3, seed=seed, second_change=0.7), language
        for pair in made.pairs:
            assert normalized(pair.text_a) != normalized(pair.text_b)


def test_unknown_kinds_and_negative_counts_are_refused():
    with pytest.raises(ConfigError, match=r"contrast kind 'amounts'.*expected some of amount, "):
        contrast_pairs(SENTENCES, PACKS["en"], per_kind=1, seed=0, kinds=["amounts"])
    with pytest.raises(ConfigError, match="per_kind=-1"):
        contrast_pairs(SENTENCES, PACKS["en"], per_kind=-1, seed=0)
    with pytest.raises(ConfigError, match="seed=-1"):
        contrast_pairs(SENTENCES, PACKS["en"], per_kind=1, seed=-1)
    with pytest.raises(ConfigError, match=r"second_change=1\.5"):
        contrast_pairs(SENTENCES, PACKS["en"], per_kind=1, seed=0, second_change=1.5)


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (["How do I reset my PIN?", "My card has not arrived"], "en"),
        (["怎么开通花呗", "iPhone 怎么还款"], "zh"),
        (["Wie sperre ich meine Karte?", "Ich habe die PIN vergessen, was nun?"], None),
        (["¿Cómo puedo cambiar mi tarjeta?", "No me llega la tarjeta"], None),
        (["Où est ma carte ?", "Je veux fermer mon compte"], None),
        (["カードを紛失しました", "支払方法を変更したい"], None),
        (["카드를 잃어버렸어요"], None),
        (["12345", "!!"], None),
        ([], None),
    ],
)
def test_language_is_detected_or_unknown(texts, language):
    assert detect_language(texts) == language
