from __future__ import annotations

import numpy as np
import pytest
from tiny import TEXTS
from tiny_models import pretrained_tokenizer

from flipkd_sdk.exporters.quantization.sample_batches import sample_batches
from flipkd_sdk.training.tokens import empty_token_id

TOKENIZER = pretrained_tokenizer()
MANY = [f"{text} {number}" for number in range(8) for text in TEXTS]


def rows(batches: list[dict[str, np.ndarray]]) -> list[tuple[int, ...]]:
    return [tuple(row.tolist()) for batch in batches for row in batch["input_ids"]]


def test_no_token_is_padding_and_no_text_is_lost() -> None:
    batches = sample_batches(TOKENIZER, MANY, count=1000, max_length=200, seed=0)
    assert all(batch["attention_mask"].all() for batch in batches)
    assert {array.dtype for batch in batches for array in batch.values()} == {np.dtype(np.int64)}
    assert max(len(batch["input_ids"]) for batch in batches) == 16
    assert sorted(rows(batches)) == sorted(tuple(ids) for ids in TOKENIZER(MANY)["input_ids"])


def test_the_draw_is_of_that_many_texts_and_the_same_again() -> None:
    draws = [rows(sample_batches(TOKENIZER, MANY, count=7, max_length=200, seed=seed)) for seed in (3, 3, 4)]
    assert [len(draw) for draw in draws] == [7, 7, 7]
    assert draws[0] == draws[1] != draws[2]


def test_long_texts_are_cut() -> None:
    batches = sample_batches(TOKENIZER, MANY, count=1000, max_length=5, seed=0)
    assert max(batch["input_ids"].shape[1] for batch in batches) == 5


@pytest.mark.parametrize("text", ["", "the only one"])
def test_a_single_text_is_a_batch(text: str) -> None:
    (batch,) = sample_batches(TOKENIZER, [text], count=512, max_length=64, seed=0)
    expected = TOKENIZER(text)["input_ids"] or [empty_token_id(TOKENIZER)]
    assert batch["input_ids"].tolist() == [expected]
