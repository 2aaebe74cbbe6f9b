from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.random_projection import GaussianRandomProjection
from tiny import TEXTS
from tiny_models import TEACHER_DIMENSION, tiny_pairs, write_tiny_teacher
from torch import nn
from transformers import AutoModel, AutoTokenizer

from flipkd_sdk.artifact.manifest import ModelReference, sha256_of
from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.training.config.schema import TeacherConfig
from flipkd_sdk.training.evaluation import development_measures
from flipkd_sdk.training.models.sources import ResolvedModel, resolve
from flipkd_sdk.training.models.teacher import alignment_targets, fine_tune, load_teacher

if TYPE_CHECKING:
    from pathlib import Path


def unit(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    # A few directions carry most of it, as in a real encoder.
    vectors *= 0.8 ** np.arange(columns, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_the_pooled_states_at_unit_length(tmp_path: Path, pooling: str) -> None:
    path = write_tiny_teacher(tmp_path / "teacher", pooling=pooling)
    teacher = load_teacher(resolve(str(path)), max_length=64)
    model, tokenizer = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    vectors = teacher.encode(TEXTS[:3])
    for text, vector in zip(TEXTS[:3], vectors, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = states[0] if pooling == "cls" else states.mean(dim=0)
        assert vector == pytest.approx((expected / expected.norm()).numpy(), abs=1e-5)
    assert vectors.dtype == np.float32
    assert teacher.revision == sha256_of(path / "model.safetensors")


def test_without_a_pooling_file_it_is_the_mean(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "teacher")
    (path / "1_Pooling" / "config.json").unlink()
    assert load_teacher(resolve(str(path)), max_length=64).encoder.pooling == "mean"


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "teacher", pooling="max")
    with pytest.raises(ModelSourceError, match="only mean and cls pooling are supported"):
        load_teacher(resolve(str(path)), max_length=64)


def add_dense(path: Path, activation: str = "Tanh", *, kinds: tuple[str, ...] = ()) -> nn.Linear:
    """Give a teacher a dense layer in the layout of sentence-transformers."""
    torch.manual_seed(2)
    linear = nn.Linear(TEACHER_DIMENSION, 10)
    (path / "2_Dense").mkdir()
    torch.save(linear.state_dict(prefix="linear."), path / "2_Dense" / "pytorch_model.bin")
    function = f"torch.nn.modules.activation.{activation}"
    options = {"in_features": TEACHER_DIMENSION, "out_features": 10, "bias": True, "activation_function": function}
    (path / "2_Dense" / "config.json").write_text(json.dumps(options))
    places = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense"} | dict.fromkeys(kinds, "3_Other")
    modules = [{"path": place, "type": f"sentence_transformers.models.{kind}"} for kind, place in places.items()]
    (path / "modules.json").write_text(json.dumps(modules))
    return linear


def test_a_dense_layer_is_honoured_and_belongs_to_the_revision(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "teacher")
    plain = load_teacher(resolve(str(path)), max_length=64)
    linear = add_dense(path)
    teacher = load_teacher(resolve(str(path)), max_length=64)
    with torch.inference_mode():
        model, tokenizer = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        states = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        expected = torch.tanh(linear(states))
    assert teacher.encode(TEXTS[:1])[0] == pytest.approx((expected / expected.norm()).numpy(), abs=1e-5)
    assert teacher.revision != plain.revision
    assert teacher.identity != plain.identity


def test_a_tuned_teacher_with_a_dense_layer_comes_back(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "raw")
    linear = add_dense(path)
    teacher = load_teacher(resolve(str(path)), max_length=48)
    config = TeacherConfig(epochs=1, learning_rate=5e-3, batch_size=8)
    scores = iter((0.1, 0.2))
    tuned = fine_tune(
        teacher,
        tiny_pairs(16),
        config,
        development=lambda: {"average_precision": next(scores)},
        run_directory=tmp_path,
        seed=0,
    )
    loaded = load_teacher(resolve(str(tmp_path / "teacher")), max_length=48)
    assert np.array_equal(loaded.encode(TEXTS), tuned.encode(TEXTS))
    assert loaded.revision == tuned.revision != teacher.revision
    assert not torch.equal(loaded.encoder.dense[0].weight, linear.weight)


def test_what_else_would_change_the_vectors_is_refused(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "a")
    add_dense(path, kinds=("LayerNorm",))
    with pytest.raises(ModelSourceError, match=r"modules.json: a module of type LayerNorm is not supported"):
        load_teacher(resolve(str(path)), max_length=64)
    path = write_tiny_teacher(tmp_path / "b")
    add_dense(path, "Softplus")
    with pytest.raises(ModelSourceError, match="activation Softplus is not supported"):
        load_teacher(resolve(str(path)), max_length=64)
    (path / "2_Dense" / "pytorch_model.bin").write_bytes(b"broken")
    (path / "2_Dense" / "config.json").write_text('{"in_features": 24, "out_features": 10}')
    with pytest.raises(ModelSourceError, match="cannot be loaded as a dense layer"):
        load_teacher(resolve(str(path)), max_length=64)


def test_another_tokenizer_is_another_teacher(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "teacher")
    before = load_teacher(resolve(str(path)), max_length=64)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_tokens(["card"])
    tokenizer.save_pretrained(path)
    after = load_teacher(resolve(str(path)), max_length=64)
    assert before.revision == after.revision
    assert before.identity != after.identity


def test_a_text_is_encoded_alike_alone_and_in_a_batch(tiny_teacher: Path) -> None:
    teacher = load_teacher(resolve(str(tiny_teacher)), max_length=64)
    together = teacher.encode(TEXTS)
    alone = np.concatenate([teacher.encode([text]) for text in TEXTS])
    assert np.abs(together - alone).max() <= 1e-6
    assert np.isfinite(together).all()


@pytest.mark.parametrize(("model_max_length", "limit"), [(10**30, 64), (62, 62)])
def test_no_text_is_longer_than_the_teacher_can_read(tmp_path: Path, model_max_length: int, limit: int) -> None:
    path = write_tiny_teacher(tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.model_max_length = model_max_length
    tokenizer.save_pretrained(path)
    teacher = load_teacher(resolve(str(path)), max_length=1000)
    assert teacher.max_length == limit
    assert np.isfinite(teacher.encode(["word " * 500])).all()


def test_what_is_no_encoder_is_a_source_error(tiny_teacher: Path, tmp_path: Path) -> None:
    reference = ModelReference("toy", "0", "MIT")
    with pytest.raises(ModelSourceError, match="cannot be loaded as an encoder"):
        load_teacher(ResolvedModel(str(tmp_path), reference), max_length=64)
    AutoModel.from_pretrained(tiny_teacher).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelSourceError, match="no padding token"):
        load_teacher(ResolvedModel(str(tmp_path), reference), max_length=64)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_fine_tuning_learns_the_pairs_and_the_result_can_be_loaded(tmp_path: Path, pooling: str) -> None:
    teacher = load_teacher(resolve(str(write_tiny_teacher(tmp_path / "raw", pooling=pooling))), max_length=48)
    pairs = tiny_pairs(40, seed=3)
    # Against the teacher's own inclination: what shares its words is no match.
    pairs = type(pairs)(pairs.a, pairs.b, 1 - pairs.label)
    development = partial(development_measures, teacher.encode, pairs)
    before, revision = development()["average_precision"], teacher.revision
    config = TeacherConfig(epochs=4, learning_rate=5e-3, batch_size=8)
    tuned = fine_tune(teacher, pairs, config, development=development, run_directory=tmp_path, seed=0)
    after = development_measures(tuned.encode, pairs)["average_precision"]
    assert after > before + 0.1
    loaded = load_teacher(resolve(str(tmp_path / "teacher")), max_length=48)
    assert loaded.encoder.pooling == pooling
    assert loaded.revision == tuned.revision != revision
    assert np.array_equal(loaded.encode(TEXTS), tuned.encode(TEXTS))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {record["stage"] for record in records} == {"teacher"}
    assert after == max(record.get("average_precision", 0.0) for record in records)


def test_targets_of_equal_dimension_are_the_vectors() -> None:
    vectors = unit(20, 8)
    assert np.array_equal(alignment_targets(vectors, 8), vectors)


def test_targets_of_more_dimensions_keep_every_inner_product() -> None:
    vectors = unit(20, 8)
    targets = alignment_targets(vectors, 12)
    assert targets.shape == (20, 12)
    assert np.array_equal(targets @ targets.T, vectors @ vectors.T)


def test_targets_of_fewer_dimensions_are_unit_vectors_that_keep_inner_products_best() -> None:
    vectors = unit(200, 24)
    targets = alignment_targets(vectors, 8)
    assert targets.shape == (200, 8)
    assert targets.dtype == np.float32
    assert np.linalg.norm(targets, axis=1) == pytest.approx(np.ones(200), abs=1e-5)

    def error(candidate: np.ndarray) -> float:
        candidate = candidate / np.linalg.norm(candidate, axis=1, keepdims=True)
        return float(np.square(candidate @ candidate.T - vectors @ vectors.T).mean())

    others = [GaussianRandomProjection(8, random_state=seed).fit_transform(vectors) for seed in range(5)]
    others += [vectors[:, 8:16], vectors[:, -8:]]
    assert error(targets) < 0.2 * min(map(error, others))


def test_a_vector_that_projects_to_nothing_stays_finite() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 1, 2]]
    assert np.isfinite(alignment_targets(vectors, 2)).all()


def test_dimension_of_the_toy(tiny_teacher: Path) -> None:
    teacher = load_teacher(resolve(str(tiny_teacher)), max_length=64)
    assert teacher.encode(["a text"]).shape == (1, TEACHER_DIMENSION)
