from __future__ import annotations

from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flipkd_sdk.training.data.augmentation import altered_copies

SENTENCES = [
    "my card was stolen on the train and I need it blocked",
    "how do I order a second card for my daughter",
    "why was I charged twice for one transfer",
    "close the account that I no longer use please",
]
texts_of_any_kind = st.lists(st.text(max_size=30), max_size=6, unique=True)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a busy machine draws texts slowly
@given(texts=texts_of_any_kind, count=st.integers(-3, 40), seed=st.integers(0, 2**32 - 1), held=st.sets(st.text()))
def test_copies_are_new_distinct_made_of_what_is_there_and_no_more_than_asked_for(
    texts: list[str], count: int, seed: int, held: set[str]
) -> None:
    copies = altered_copies(texts, count, without=held, seed=seed)
    assert len(copies) <= max(count, 0)
    assert len(set(copies)) == len(copies)
    assert {*copies}.isdisjoint({*texts, *held, ""})
    assert set("".join(copies)) <= set("".join(texts)) | {" "}
    assert copies == altered_copies(texts, count, without=held, seed=seed)


def test_as_many_as_asked_for_and_from_each_text_in_turn() -> None:
    copies = altered_copies(SENTENCES, 400, seed=0)
    assert len(copies) == 400
    words = [set(sentence.split()) for sentence in SENTENCES]
    for number, copy in enumerate(copies[:4]):
        assert len(words[number].intersection(copy.split())) >= 3
    assert copies != altered_copies(SENTENCES, 400, seed=1)


def test_a_copy_keeps_the_order_of_most_words_and_half_of_their_number() -> None:
    sentence = " ".join(f"word{number}" for number in range(100))
    (copy,) = altered_copies([sentence], 1, seed=0)
    numbers = [int(word.removeprefix("word")) for word in copy.split()]
    assert 40 <= len(numbers) < 100
    ascending = sum(later > earlier for earlier, later in pairwise(numbers))
    assert 0.6 < ascending / len(numbers) < 1.0


def test_of_texts_without_spaces_characters_are_the_words() -> None:
    question = "花呗如何还款才不影响信用"
    copies = altered_copies([question, "how do I pay"], 20, seed=0)
    chinese = [copy for copy in copies if set(copy) & set(question)]
    assert all(set(copy) <= set(question) and len(copy) >= 4 for copy in chinese)
    assert len(chinese) >= 9


def test_a_single_word_has_few_copies_and_the_search_for_more_ends() -> None:
    assert {*altered_copies(["ab"], 1000, seed=0)} <= {"a", "b", "aa", "bb", "ba"}
