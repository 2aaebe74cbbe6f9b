from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from tiny_models import pretrained_tokenizer, tiny_pairs

from flipkd_sdk.training import initialization
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.data.corpus import build_corpus
from flipkd_sdk.training.initialization import initialize_encoder
from flipkd_sdk.training.models.readout import pool
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.student import Student, create_student
from flipkd_sdk.training.models.teacher import load_teacher
from flipkd_sdk.training.tokens import encode

if TYPE_CHECKING:
    from pathlib import Path

    from flipkd_sdk.training.data.corpus import Corpus


@pytest.fixture(params=["mean", "last"])
def student(request: pytest.FixtureRequest, tiny_llama: Path) -> Student:
    return create_student(str(tiny_llama), StudentConfig(layer=2, rank=4, site_rank=16, pooling=request.param))


@pytest.fixture
def corpus(student: Student, tiny_teacher: Path) -> Corpus:
    teacher = load_teacher(resolve(str(tiny_teacher)), 64)
    return build_corpus(tiny_pairs(60).texts, teacher, student, pretrained_tokenizer())


def alignment(student: Student, corpus: Corpus) -> float:
    return float((encode(corpus.tokens, student.eval()) * corpus.target.numpy()).sum(axis=1).mean())


def test_the_ridge_solution_aligns_far_better_than_a_random_start(student: Student, corpus: Corpus) -> None:
    before = alignment(student, corpus)
    initialize_encoder(student, corpus, seed=0)
    assert alignment(student, corpus) > max(before, 0.0) + 0.3
    assert student.encoder_weight.requires_grad


def test_it_is_the_ridge_regression_of_scikit_learn(student: Student, corpus: Corpus) -> None:
    def states(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return pool(student.hidden_states(input_ids, attention_mask), attention_mask, student.options.pooling)

    pooled = encode(corpus.tokens, states).astype(np.float64)
    penalty = 0.01 * np.trace(pooled.T @ pooled) / pooled.shape[1]
    expected = Ridge(alpha=penalty, fit_intercept=False).fit(pooled, corpus.target.numpy()).coef_
    initialize_encoder(student, corpus, seed=0)
    assert np.abs(student.encoder_weight.detach().numpy() - expected).max() <= 1e-4 * np.abs(expected).max()


def test_of_a_large_corpus_a_sample_is_enough(
    student: Student, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(seed: int) -> torch.Tensor:
        initialize_encoder(student, corpus, seed=seed)
        return student.encoder_weight.detach().clone()

    whole = start(0)
    monkeypatch.setattr(initialization, "_SAMPLE", 100)
    assert not torch.equal(start(0), whole)
    assert torch.equal(start(0), start(0))
    assert not torch.equal(start(0), start(1))


@pytest.mark.parametrize("rank", [16, 40])
def test_without_teacher_vectors_the_states_are_whitened(tiny_llama: Path, tiny_teacher: Path, rank: int) -> None:
    student = create_student(str(tiny_llama), StudentConfig(layer=2, rank=4, site_rank=rank))
    teacher = load_teacher(resolve(str(tiny_teacher)), 64)
    corpus = build_corpus(tiny_pairs(200).texts, teacher, student, pretrained_tokenizer())
    initialize_encoder(student, replace(corpus, teacher=None, target=None), seed=0)

    def states(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return pool(student.hidden_states(input_ids, attention_mask), attention_mask, "mean")

    projected = encode(corpus.tokens, states).astype(np.float64) @ student.encoder_weight.detach().numpy().T
    gram = projected.T @ projected / len(projected)
    variance = np.diag(gram)
    assert np.abs(gram - np.diag(variance)).max() < 1e-3 * variance.max()  # the directions are uncorrelated
    assert variance[0] == pytest.approx(1 / rank, rel=0.05)
    assert (variance <= 1.001 / rank).all()
    assert (variance[32:] == 0).all()  # the states have no more directions


def test_a_random_start_is_left_alone(tiny_llama: Path, tiny_teacher: Path) -> None:
    student = create_student(str(tiny_llama), StudentConfig(layer=2, rank=4, initialization="random"))
    corpus = build_corpus(
        tiny_pairs(4).texts, load_teacher(resolve(str(tiny_teacher)), 64), student, pretrained_tokenizer()
    )
    before = student.encoder_weight.detach().clone()
    initialize_encoder(student, corpus, seed=0)
    assert torch.equal(student.encoder_weight, before)
