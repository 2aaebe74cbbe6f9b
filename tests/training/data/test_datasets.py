from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import TEXTS, tiny_tokenizer
from tiny_data import corpus_of
from tiny_models import pretrained_tokenizer, tiny_pairs

from flipkd_sdk.errors import TrainingError
from flipkd_sdk.training.data.datasets import PairDataset, TextDataset
from flipkd_sdk.training.tokens import TokenizedTexts, encode, tokenize


def test_tokens_are_cut_and_counted_and_never_none() -> None:
    whole = [encoding.ids for encoding in tiny_tokenizer().encode_batch(TEXTS)]
    tokens = tokenize(pretrained_tokenizer(), TEXTS, 8)
    assert tokens.token_ids == [ids[:8] or [1] for ids in whole]
    assert tokens.truncated == sum(len(ids) > 8 for ids in whole) > 0
    assert tokens.pad_token_id == 0
    assert tokenize(pretrained_tokenizer(), [], 8).token_ids == []


def test_a_batch_is_padded_on_the_right() -> None:
    batch = TokenizedTexts([[5, 6, 7], [8], [9, 10]], pad_token_id=3, truncated=0).batch([1, 0])
    assert batch["input_ids"].tolist() == [[8, 3, 3], [5, 6, 7]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64


def test_a_batch_may_be_padded_on_the_left() -> None:
    batch = TokenizedTexts([[5, 6, 7], [8]], pad_token_id=3, truncated=0).batch([1, 0], left=True)
    assert batch["input_ids"].tolist() == [[3, 3, 8], [5, 6, 7]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_encoding_keeps_the_order(batch_size: int) -> None:
    tokens = TokenizedTexts([[5, 6, 7], [8], [9, 10], [1], [4, 4]], pad_token_id=0, truncated=0)
    widths = []

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        widths.append(input_ids.shape[1])
        return torch.stack([(input_ids * attention_mask).sum(1), attention_mask.sum(1)], dim=1)

    assert encode(tokens, forward, batch_size=batch_size).tolist() == [[18, 3], [8, 1], [19, 2], [1, 1], [8, 2]]
    assert widths == sorted(widths)


def test_a_batch_that_does_not_fit_into_memory_names_the_setting() -> None:
    def forward(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    message = r"^encoding texts of up to 3 tokens: out of memory; lower the model's max_length$"
    with pytest.raises(TrainingError, match=message):
        encode(TokenizedTexts([[5, 6, 7]], pad_token_id=0, truncated=0), forward)


def test_an_item_of_texts_is_its_position() -> None:
    corpus = corpus_of(tiny_pairs(4))
    dataset = TextDataset(corpus)
    assert len(dataset) == 8
    assert [dataset[i] for i in range(8)] == list(range(8))
    batch = dataset.collate([5, 2])
    assert batch.keys() == {"input_ids", "attention_mask", "text", "teacher", "target"}
    assert batch["text"].tolist() == [5, 2]
    assert corpus.teacher is not None
    assert corpus.target is not None
    assert torch.equal(batch["teacher"], corpus.teacher[[5, 2]])
    assert torch.equal(batch["target"], corpus.target[[5, 2]])
    assert dataset.lengths == [len(ids) for ids in corpus.tokens.token_ids]


def test_a_batch_of_pairs_has_the_first_texts_before_the_second_ones() -> None:
    pairs = tiny_pairs(4)
    dataset = PairDataset(corpus_of(pairs), pairs, np.array([True, False, True, True]))
    batch = dataset.collate([dataset[1], dataset[2]])
    assert batch["text"].tolist() == [2, 4, 3, 5]
    assert batch["label"].tolist() == [0, 1]
    assert batch["keep"].tolist() == [False, True]
    assert len(batch["input_ids"]) == 4
    assert len(dataset) == len(dataset.lengths) == 4


def test_the_teachers_cosine_of_a_pair() -> None:
    pairs = tiny_pairs(4)
    corpus = corpus_of(pairs)
    expected = [float(corpus.teacher[2 * i] @ corpus.teacher[2 * i + 1]) for i in range(4)]
    assert corpus.teacher_scores(pairs) == pytest.approx(expected, rel=1e-5)
