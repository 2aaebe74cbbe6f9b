from __future__ import annotations

from collections import Counter, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.errors import InvalidTextError
from flipkd_sdk.runtimes.encoding.inputs import (
    distinct_of_pair,
    distinct_of_pairs,
    distinct_of_two,
    distinct_texts,
    several,
)


@given(st.lists(st.sampled_from(["", "a", "b", "c", "ab"])))
def test_texts_come_back_from_their_distinct_ones(texts: list[str]) -> None:
    found = distinct_texts(texts)
    assert [found.texts[place] for place in found.index] == texts
    assert max(Counter(found.texts).values(), default=1) == 1
    for place, text in enumerate(found.texts):
        assert found.name_of(place) == f"text {texts.index(text)}"


@pytest.mark.parametrize(
    ("value", "description"),
    [(None, "None"), (b"a", "bytes"), (float("nan"), "NaN"), (np.float64("nan"), "NaN"), (3, "int"), (1.5, "float")],
)
def test_what_is_no_text_is_named_with_its_place(value: object, description: str) -> None:
    with pytest.raises(InvalidTextError, match=rf"^text 2: expected a str, found {description}$"):
        distinct_texts(["a", "b", value])
    with pytest.raises(InvalidTextError, match=rf"^pair 1, first text: .* {description}$"):
        distinct_of_pairs([("a", "b"), (value, "c")])
    with pytest.raises(InvalidTextError, match=rf"^pair 0, second text: .* {description}$"):
        distinct_of_pairs([("a", value)])
    with pytest.raises(InvalidTextError, match=rf"^second text: .* {description}$"):
        distinct_of_pair("a", value)
    with pytest.raises(InvalidTextError, match=rf"^right 1: .* {description}$"):
        distinct_of_two(["a"], ["b", value], "left {}".format, "right {}".format)


@pytest.mark.parametrize("pair", ["ab", b"ab", None, 3, ("a",), ("a", "b", "c"), []])
def test_a_malformed_pair_is_named(pair: object) -> None:
    with pytest.raises(InvalidTextError, match=r"^pair 1: expected two texts, found "):
        distinct_of_pairs([("a", "b"), pair])


def test_pairs_may_be_anything_that_holds_two_texts() -> None:
    row = namedtuple("row", ["a", "b"])
    pairs = (pair for pair in [("a", "b"), ["b", "c"], row("c", "a"), np.array(["a", "d"])])
    found = distinct_of_pairs(pairs)
    assert found.texts == ["a", "b", "c", "d"]
    assert found.index.tolist() == [0, 1, 1, 2, 2, 0, 0, 3]


@pytest.mark.parametrize("texts", ["a question", b"bytes", None, 3])
def test_a_single_text_is_not_read_letter_by_letter(texts: object) -> None:
    with pytest.raises(InvalidTextError, match=r"^texts: expected an iterable, found "):
        several(texts, "texts")  # type: ignore[arg-type]
