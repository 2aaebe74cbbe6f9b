"""Pairs that need no rules: one word exchanged for a related one, and keywords."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.training.head.siblings import keyword_pairs, sibling_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WORDS = ["".join(letters) for letters in product("bdfgk", "aeiou", "lmnrs")]
TEXTS = [f"{WORDS[i % 60].title()} my {WORDS[60 + i * 7 % 60]} {WORDS[60 + i * 11 % 60]}" for i in range(180)]
"""Each word occurs in few texts, as most words of a domain do."""


def letters(words: Sequence[str]) -> NDArray[np.float32]:
    """Vectors whose cosines are all 0.5."""
    vectors = np.hstack([np.ones((len(words), 1)), np.eye(len(words))])
    return (vectors / np.sqrt(2)).astype(np.float32)


def test_a_sibling_differs_in_one_word_of_the_texts() -> None:
    pairs = sibling_pairs(TEXTS, letters, count=20, seed=0)
    words = {word.lower() for text in TEXTS for word in text.split()}
    assert len(pairs) == 20
    for text, changed in pairs:
        different = [(a, b) for a, b in zip(text.split(), changed.split(), strict=True) if a != b]
        assert len(different) == 1
        assert different[0][1].lower() in words
        assert different[0][0].istitle() == different[0][1].istitle()


def test_words_that_are_not_related_are_no_siblings() -> None:
    assert sibling_pairs(TEXTS, lambda words: np.eye(len(words), dtype=np.float32), count=20, seed=0) == []


def test_keywords_are_the_content_words_in_any_order() -> None:
    texts = [f"I want to {text}" for text in TEXTS]
    pairs = keyword_pairs(texts, count=40, seed=0)
    assert len(pairs) == 40
    for one, other in pairs:
        words = [word for word in one.lower().split() if word not in ("i", "want", "to", "my")]
        assert set(words) == set(other.split())
    whole = sum(one in texts for one, _ in pairs)
    assert whole == 20
    assert any(one not in texts and one != other for one, other in pairs)


def test_texts_with_numbers_or_many_words_are_no_keywords() -> None:
    texts = [f"{text} 100" for text in TEXTS] + [" ".join(WORDS[k::9]) for k in range(9)] + ["one"]
    assert keyword_pairs(texts, count=9, seed=0) == []


def test_the_same_seed_gives_the_same_pairs() -> None:
    assert sibling_pairs(TEXTS, letters, count=9, seed=3) == sibling_pairs(TEXTS, letters, count=9, seed=3)
    assert keyword_pairs(TEXTS, count=9, seed=3) == keyword_pairs(TEXTS, count=9, seed=3)
    assert keyword_pairs(TEXTS, count=9, seed=3) != keyword_pairs(TEXTS, count=9, seed=4)
