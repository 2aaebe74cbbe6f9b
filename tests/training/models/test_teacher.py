from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TEXTS
from tiny_models import TEACHER_DIMENSION, write_tiny_teacher
from torch import nn
from transformers import AutoModel, AutoTokenizer

from flipkd_sdk.artifact.manifest import ModelReference, sha256_of
from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.training.models.sources import ResolvedModel, resolve
from flipkd_sdk.training.models.teacher import load_teacher, save_teacher


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_vectors_are_the_pooled_states_at_unit_length(tmp_path: Path, pooling: str) -> None:
    path = write_tiny_teacher(tmp_path / "teacher", pooling=pooling)
    teacher = load_teacher(resolve(str(path)), max_length=64)
    model, tokenizer = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    vectors = teacher.encode(TEXTS[:3])
    for text, vector in zip(TEXTS[:3], vectors, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = {"cls": states[0], "mean": states.mean(dim=0), "lasttoken": states[-1]}[pooling]
        assert vector == pytest.approx((expected / expected.norm()).numpy(), abs=1e-5)
    assert vectors.dtype == np.float32
    assert teacher.revision == sha256_of(path / "model.safetensors")


def test_without_a_pooling_file_it_is_the_mean(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "teacher")
    (path / "1_Pooling" / "config.json").unlink()
    assert load_teacher(resolve(str(path)), max_length=64).encoder.pooling == "mean"


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "teacher", pooling="max")
    with pytest.raises(ModelSourceError, match="pooling max: only mean, cls, lasttoken are supported"):
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


def test_a_saved_teacher_with_a_dense_layer_comes_back(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "raw")
    linear = add_dense(path)
    teacher = load_teacher(resolve(str(path)), max_length=48)
    with torch.no_grad():
        teacher.encoder.dense[0].weight.mul_(1.5)
    revision = save_teacher(teacher, tmp_path / "saved")
    loaded = load_teacher(resolve(str(tmp_path / "saved")), max_length=48)
    assert np.array_equal(loaded.encode(TEXTS), teacher.encode(TEXTS))
    assert loaded.revision == revision != teacher.revision
    assert torch.equal(loaded.encoder.dense[0].weight, linear.weight * 1.5)


def test_what_else_would_change_the_vectors_is_refused(tmp_path: Path) -> None:
    path = write_tiny_teacher(tmp_path / "a")
    add_dense(path, kinds=("LayerNorm",))
    with pytest.raises(ModelSourceError, match=r"modules.json: a module of type .*LayerNorm is not supported"):
        load_teacher(resolve(str(path)), max_length=64)
    path = write_tiny_teacher(tmp_path / "b")
    add_dense(path, "Softplus")
    with pytest.raises(ModelSourceError, match="activation Softplus is not supported"):
        load_teacher(resolve(str(path)), max_length=64)
    (path / "2_Dense" / "pytorch_model.bin").write_bytes(b"broken")
    (path / "2_Dense" / "config.json").write_text('{"in_features": 24, "out_features": 10}')
    with pytest.raises(ModelSourceError, match="cannot be loaded as a dense layer"):
        load_teacher(resolve(str(path)), max_length=64)


def change(file: Path, **entries: Any) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(content | entries))


V6_PACKAGES = {
    "Transformer": "sentence_transformers.base.modules.transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling",
    "Dense": "sentence_transformers.base.modules.dense",
    "Normalize": "sentence_transformers.base.modules.normalize",
}


def write_as_version_6(path: Path, pooling: str, prompt: str) -> Path:
    """Write a teacher as sentence-transformers 6.2 does."""
    write_tiny_teacher(path)
    add_dense(path)
    modules = [{"idx": i, "name": str(i), "type": f"{V6_PACKAGES[kind]}.{kind}"} for i, kind in enumerate(V6_PACKAGES)]
    for i, module in enumerate(modules):
        module["path"] = "" if i == 0 else f"{i}_{list(V6_PACKAGES)[i]}"
    (path / "modules.json").write_text(json.dumps(modules))
    options = {"embedding_dimension": TEACHER_DIMENSION, "pooling_mode": pooling, "include_prompt": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(options))
    name = "sentence_embedding"
    change(path / "2_Dense" / "config.json", module_input_name=name, module_output_name=name)
    prompts = {"document": "", "query": prompt}
    change(path / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="query" if prompt else None)
    return path


@pytest.mark.parametrize("prompt", ["", "query: "])
@pytest.mark.parametrize(("pooling", "name"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last")])
def test_directories_of_version_6_are_read_as_sentence_transformers_reads_them(
    tmp_path: Path, pooling: str, name: str, prompt: str
) -> None:
    path = write_as_version_6(tmp_path / "teacher", pooling, prompt)
    teacher = load_teacher(resolve(str(path)), max_length=64)
    assert (teacher.encoder.pooling, teacher.prompt, len(teacher.encoder.dense)) == (name, prompt, 2)
    texts = [text for text in TEXTS if text.strip()]
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return  # the comparison needs the package of the benchmarks
    other = SentenceTransformer(str(path), device="cpu", trust_remote_code=False, local_files_only=True)
    other.max_seq_length = 64
    assert np.abs(teacher.encode(texts) - other.encode(texts)).max() <= 1e-6


def test_a_teacher_of_release_0_1_gives_the_same_vectors() -> None:
    path = Path(__file__).parent / "fixtures" / "teacher_0_1"
    expected = json.loads((path / "vectors.json").read_text(encoding="utf-8"))
    teacher = load_teacher(resolve(str(path)), max_length=48)
    assert np.abs(teacher.encode(expected["texts"]) - np.array(expected["vectors"])).max() <= 1e-6


def test_a_prompt_precedes_every_text_and_is_saved(tmp_path: Path) -> None:
    path = write_as_version_6(tmp_path / "teacher", "mean", "query: ")
    default = load_teacher(resolve(str(path)), max_length=48)
    plain = load_teacher(resolve(str(path)), max_length=48, prompt="")
    other = load_teacher(resolve(str(path)), max_length=48, prompt="passage: ")
    assert np.array_equal(default.encode(["a card"]), plain.encode(["query: a card"]))
    assert np.array_equal(other.encode(["a card"]), plain.encode(["passage: a card"]))
    assert len({teacher.identity for teacher in (default, plain, other)}) == 3
    save_teacher(other, tmp_path / "saved")
    again = load_teacher(resolve(str(tmp_path / "saved")), max_length=48)
    assert again.prompt == "passage: "
    assert np.array_equal(again.encode(TEXTS), other.encode(TEXTS))


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "max"]}, "pooling mean and max: only mean, cls, lasttoken"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt = false is not supported"),
        ("2_Dense/config.json", {"use_residual": True}, "a residual or another input or output is not supported"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "a residual or another input or output"),
        ("2_Dense/config.json", {"activation_function": "evil.Tanh"}, "activation Tanh is not supported"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "cannot be loaded as options of sentence"),
    ],
)
def test_options_that_would_change_the_vectors_are_refused(
    tmp_path: Path, name: str, entries: dict[str, Any], message: str
) -> None:
    path = write_as_version_6(tmp_path / "teacher", "mean", "")
    change(path / name, **entries)
    with pytest.raises(ModelSourceError, match=message) as raised:
        load_teacher(resolve(str(path)), max_length=64)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([("evil.Pooling", "1_Pooling")], "a module of type evil.Pooling is not supported"),
        ([("sentence_transformers.models.Dense", "../2_Dense")], r"\.\./2_Dense is outside the directory"),
        ([("sentence_transformers.models.Dense", "/2_Dense")], "/2_Dense is outside the directory"),
        (
            [("sentence_transformers.models.Normalize", ""), ("sentence_transformers.models.Dense", "2_Dense")],
            "modules in the order Transformer, Pooling, Dense, Normalize are supported",
        ),
    ],
)
def test_foreign_modules_and_other_orders_are_refused(
    tmp_path: Path, modules: list[tuple[str, str]], message: str
) -> None:
    path = write_as_version_6(tmp_path / "teacher", "mean", "")
    (path / "modules.json").write_text(json.dumps([{"type": kind, "path": place} for kind, place in modules]))
    with pytest.raises(ModelSourceError, match=message):
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


def test_dimension_of_the_toy(tiny_teacher: Path) -> None:
    teacher = load_teacher(resolve(str(tiny_teacher)), max_length=64)
    assert teacher.encode(["a text"]).shape == (1, TEACHER_DIMENSION)
