"""Non-matches that need no rules: one word exchanged for a related one, or two words in each other's place."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.training.head.siblings import sibling_pairs, swapped_pairs

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


def test_swapped_words_change_places_and_nothing_else() -> None:
    pairs = swapped_pairs(TEXTS, count=20, seed=0)
    assert len(pairs) == 20
    for text, changed in pairs:
        a, b = text.lower().split(), changed.lower().split()
        assert sorted(a) == sorted(b)
        assert sum(x != y for x, y in zip(a, b, strict=True)) == 2


def test_the_same_seed_gives_the_same_pairs() -> None:
    assert sibling_pairs(TEXTS, letters, count=9, seed=3) == sibling_pairs(TEXTS, letters, count=9, seed=3)
    assert swapped_pairs(TEXTS, count=9, seed=3) == swapped_pairs(TEXTS, count=9, seed=3)
    assert swapped_pairs(TEXTS, count=9, seed=3) != swapped_pairs(TEXTS, count=9, seed=4)
