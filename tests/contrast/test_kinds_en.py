"""Each kind of the English pack: what it changes, and what it leaves alone."""

import re

import pytest

from flipkd_sdk.contrast import contrast_pairs, load_pack

PACK = load_pack("en")


def changed(text, kind, seeds=20):
    """All changes of one text that some seeds give."""
    found = set()
    for seed in range(seeds):
        for pair in contrast_pairs([text], PACK, per_kind=5, seed=seed, kinds=[kind]).pairs:
            assert text in (pair.text_a, pair.text_b)
            assert pair.label == PACK.labels[kind]
            found.add(pair.text_b if pair.text_a == text else pair.text_a)
    return found


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("I want a refund.", "I do not want a refund."),
        ("I don't want a refund.", "I want a refund."),
        ("My card is blocked.", "My card is not blocked."),
        ("My card isn't blocked", "My card is blocked"),
        ("i can pay with my phone", "i cannot pay with my phone"),
        ("I can't pay with my phone", "I can pay with my phone"),
        ("My card works.", "My card does not work."),
        ("My card doesn't work.", "My card works."),
        ("I received my card.", "I did not receive my card."),
        ("I did not receive my card.", "I received my card."),
        ("My card still hasn't arrived yet.", "My card has arrived."),
        ("I have received the money.", "I have not received the money."),
        ("I have a card.", "I do not have a card."),
        ("Block my card", "Do not block my card"),
        ("Please do not block my card", "Please block my card"),
        ("Please cancel the order.", "Please do not cancel the order."),
        ("Why is my card blocked?", "Why is my card not blocked?"),
        ("Why isn't my card working?", "Why is my card working?"),
        ("Why can't I log in?", "Why can I log in?"),
        ("What happens if I pay late?", "What happens if I do not pay late?"),
        ("Nothing works.", "Everything works."),
        ("Which cards are accepted", "Which cards are refused"),
        ("I use the app.", "I no longer use the app."),
        ("I received the card.", "I never received the card."),
        ("There is a fee.", "There is no fee."),
    ],
)
def test_negation_is_grammatical(text, negated):
    assert negated in changed(text, "negation")


@pytest.mark.parametrize(
    "text",
    [
        "How do I reset my PIN?",  # "How do I not reset" asks for nothing
        "Can I pay abroad?",  # asks the same as "Can't I pay abroad?"
        "Isn't there a fee?",
        "Do you know if my card is blocked?",
        "I wonder if I can pay abroad.",
        "I have not received any money.",  # "I have received any money" is no sentence
        "Thank you.",
    ],
)
def test_negation_leaves_alone_what_it_would_not_change_or_spoil(text):
    assert changed(text, "negation") == set()


def test_amounts_keep_their_format():
    for other in changed("I paid 1,250.50 EUR for it", "amount"):
        assert other != "I paid 1,250.50 EUR for it"
        number = other.removeprefix("I paid ").removesuffix(" EUR for it")
        assert len(number) == 8
        assert (number[1], number[5:]) == (",", ".50")


@pytest.mark.parametrize(
    "text",
    [
        "I am here 24/7",
        "vitamin B12",
        "What is type 2 diabetes?",
        "Call 911",
        "on 2/12/16",
        "the 3rd of them",
        "it costs 0",
        "1 day",
        "3D Secure",
        "since 2019",
        "no digits",
    ],
)
def test_amounts_leave_names_dates_and_idioms_alone(text):
    assert changed(text, "amount") == set()


def test_ages_are_not_multiplied_by_ten():
    assert not changed("I am 19 years old", "amount", seeds=60) & {"I am 190 years old"}


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("It takes two weeks", "number_word", "It takes ten weeks"),
        ("I was charged twice.", "number_word", "I was charged once."),
        ("It takes 3 days", "unit", "It takes 3 weeks"),
        ("I paid $20", "unit", "I paid €20"),
        ("I bought it yesterday", "date", "I bought it last week"),
        ("on 2024-05-03 it came", "date", "on 2024-05-07 it came"),
        ("I joined in March", "month", "I joined in May"),
        ("I paid on Monday", "weekday", "I paid on Friday"),
        ("How do I open an account?", "antonym", "How do I close an account?"),
        ("HOW DO I OPEN AN ACCOUNT?", "antonym", "HOW DO I CLOSE AN ACCOUNT?"),
        ("Can I pay without a PIN?", "antonym", "Can I pay with a PIN?"),
        ("Move money from savings to checking", "direction", "Move money from checking to savings"),
        ("A transfer to my account", "direction", "A transfer from my account"),
        ("I don't know", "contraction", None),
        ("I do not pay.", "contraction", "I don't pay."),
        ("I can't pay.", "contraction", "I cannot pay."),
        ("Block my card.", "politeness", "Please block my card."),
        ("How do I pay?", "politeness", "How do I pay? Thanks."),
        ("How do I pay?", "wording", "How can I pay?"),
        ("How do I pay?", "wording", "Can you tell me how to pay?"),
        ("How do I pay?", "case", "HOW DO I PAY?"),
        ("How do I pay?", "punctuation", "How do I pay"),
        ("I paid 1000 EUR", "number_format", "I paid 1,000 EUR"),
        ("I paid 5.00 EUR", "number_format", "I paid 5 EUR"),
        ("It takes 2 weeks", "number_format", "It takes two weeks"),
        ("It takes two weeks", "number_format", "It takes 2 weeks"),
        ("I take 20mg", "unit_format", "I take 20 mg"),
        ("I paid $20", "unit_format", "I paid 20 dollars"),
    ],
)
def test_kind_makes(text, kind, expected):
    found = changed(text, kind, seeds=80)
    assert expected in found if expected else found is not None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("You may march on", "month"),
        ("The shop is close to me", "antonym"),
        ("What is the problem with my card?", "antonym"),
        ("I set up a top-up", "antonym"),
        ("Due to illness, from now on", "direction"),
        ("Why don't I get it?", "contraction"),
        ("one of them", "number_word"),
        ("one of them", "number_format"),
    ],
)
def test_kind_leaves_alone(text, kind):
    assert changed(text, kind) == set()


def test_typos_spare_words_that_carry_the_contrast_and_known_words():
    assert changed("open block close", "typo") == set()
    for other in changed("my statement", "typo"):
        assert other != "my statement"
        assert sorted(set(other)) == sorted(set("my statement")) or len(other) == len("my statement") - 1


def test_nouns_of_the_same_kind_come_from_shared_contexts():
    frames = ["block my {} now", "i lost my {}", "where is my {}", "send me my {} today", "is my {} ready"]
    texts = [frame.format(noun) for frame in frames for noun in ("passport", "wallet")]
    texts = [*texts, "we sat in the garden", "they met in the garden", "all was well in the garden"]
    pairs = contrast_pairs(texts, PACK, per_kind=50, seed=0, kinds=["noun"]).pairs
    assert pairs
    for pair in pairs:
        assert pair.label == 0
        assert pair.text_a.replace("passport", "wallet") == pair.text_b.replace("passport", "wallet")
        assert "garden" not in pair.text_a


def test_synonyms_and_plurals_are_not_nouns_of_the_same_kind():
    frames = ["block my {} now", "i lost my {}", "where is my {}", "send me my {} today", "is my {} ready"]
    for one, other in (("phone", "mobile"), ("letter", "letters"), ("parcel", "parsel")):
        texts = [frame.format(noun) for frame in frames for noun in (one, other)]
        assert len(contrast_pairs(texts, PACK, per_kind=50, seed=0, kinds=["noun"])) == 0


@pytest.mark.parametrize(
    ("text", "kind", "others"),
    [
        (
            "I called my bank.",
            "role",
            "(my bank|(my [a-z]+|you)) called (me|my bank).",
        ),
        ("You paid me", "role", "I paid you"),
        ("The transfer is pending", "state", "The transfer is (rejected|completed|cancelled|approved)"),
        ("I live in Hamburg", "place", "I live in [A-Z][a-z]+"),
        ("a bill from amazon", "firm", "a bill from .+"),
        ("Müller GmbH", "person", "[A-Z].+ GmbH"),
        ("Müller GmbH", "firm", "Müller [A-Z].+"),
        ("I take aspirin", "medicine", "I take [a-z]+"),
        ("My knee hurts", "body_part", "My [a-z]+ hurts"),
        ("Is measles contagious?", "disease", r"Is [a-z]+ contagious\?"),
        ("a card for my son", "relative", "a card for my [a-z]+"),
        ("I can't find it", "negation_form", "(I|I'm|it) .*(unable|not able|impossible|cannot|fail).* find it"),
        ("The code is not valid", "negation_form", "The code (is invalid|isn't valid)"),
    ],
)
def test_names_states_and_roles_are_exchanged(text, kind, others):
    found = changed(text, kind)
    assert found
    for other in found:
        assert re.fullmatch(others, other, re.IGNORECASE), other
