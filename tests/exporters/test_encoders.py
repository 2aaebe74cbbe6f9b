"""Encoders that no run trained: families, poolings, dense layers, prompts, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from tiny import tiny_tokenizer
from tiny_models import pretrained_tokenizer, tiny_pairs, write_tiny_run, write_tiny_teacher
from tokenizers import processors

from flipkd_sdk.artifact.manifest import WHOLE_ENCODER, read_manifest
from flipkd_sdk.errors import ConfigError, FlipKDError, InvalidPairsError, ModelSourceError, TrainingError
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.exporters.encoders.sources import EncoderChoice, encoder_source
from flipkd_sdk.exporters.export import ExportOptions, export, export_encoder
from flipkd_sdk.pairs import read_pairs, write_pairs
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.training.models.sentence_modules import SentenceModules, write_modules
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.teacher import load_teacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HIDDEN = 32
SIZES = {
    "vocab_size": tiny_tokenizer().get_vocab_size(),
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 66,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Family:
    config: str
    pooling: str
    max_length: int
    """Most tokens that it has positions for."""
    attention: str = "bidirectional"
    prompt: str = ""
    dense: int = 0
    changes: tuple[tuple[str, Any], ...] = ()


FAMILIES = {
    "BERT": Family("BertConfig", "cls", 66, dense=12),
    # Its padding token is always 1, behind which positions start.
    "MPNet": Family("MPNetConfig", "mean", 64, prompt="query: "),
    # Its padding token is that of the configuration, here 0.
    "XLM-R": Family("XLMRobertaConfig", "mean", 65, prompt="passage: "),
    "ModernBERT": Family(
        "ModernBertConfig", "mean", 66, changes=(("local_attention", 8), ("cls_token_id", 1), ("sep_token_id", 2))
    ),
    "Qwen3": Family("Qwen3Config", "last", 66, "causal", changes=(("num_key_value_heads", 2), ("head_dim", 8))),
}


def write_encoder(directory: Path, family: Family) -> Path:
    """Write a random encoder as sentence-transformers does; its tokenizer puts <s> in front and </s> at the end."""
    torch.manual_seed(0)
    config = getattr(transformers, family.config)(**{**SIZES, **dict(family.changes)})
    transformers.AutoModel.from_config(config).save_pretrained(directory)
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    pretrained_tokenizer(tokenizer).save_pretrained(directory)
    layers = [torch.nn.Linear(HIDDEN, family.dense), torch.nn.Tanh()] if family.dense else []
    write_modules(directory, HIDDEN, SentenceModules(family.pooling, torch.nn.Sequential(*layers), family.prompt))
    return directory


@dataclass(frozen=True)
class ExportedEncoder:
    family: Family
    source: Path
    matcher: Path


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "dev.csv"
    write_pairs(tiny_pairs(24, 1), file)
    return file


@pytest.fixture(scope="module", params=FAMILIES)
def encoder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dev: Path, wide: ExportOptions
) -> ExportedEncoder:
    directory, family = tmp_path_factory.mktemp("encoder"), FAMILIES[request.param]
    source = write_encoder(directory / "encoder", family)
    export_encoder(EncoderChoice(str(source), dev), directory / "matcher", wide)
    return ExportedEncoder(family, source, directory / "matcher")


def test_float32_vectors_are_those_of_torch(encoder: ExportedEncoder, dev: Path) -> None:
    teacher = load_teacher(resolve(str(encoder.source)), encoder.family.max_length)
    texts = [*read_pairs(dev).texts, "a", "longer than it reads " * 30, "如何重置我的密码？"]
    # A prompt alone ends in a space that no text follows.
    texts += [] if encoder.family.prompt else [""]
    with Matcher.load(encoder.matcher, precision="fp32", device="cpu", on_truncate="ignore") as matcher:
        assert np.abs(matcher.encode(texts) - teacher.encode(texts)).max() <= 1e-5


def test_no_vector_depends_on_its_batch(encoder: ExportedEncoder, dev: Path) -> None:
    texts = [*read_pairs(dev).texts, "short", "one that is much longer than all of the others, " * 2]
    with Matcher.load(encoder.matcher, precision="int8", device="cpu", on_truncate="ignore") as matcher:
        together = matcher.encode(texts)
        assert np.abs(together - [matcher.encode([text])[0] for text in texts]).max() <= 1e-6
        assert np.abs(together - matcher.encode(texts[::-1])[::-1]).max() <= 1e-6


def test_the_manifest_describes_the_encoder(encoder: ExportedEncoder, dev: Path) -> None:
    manifest, family = read_manifest(encoder.matcher), encoder.family
    spec = manifest.encoder
    assert (spec.layer, spec.module, spec.pooling) == (2, WHOLE_ENCODER, family.pooling)
    assert (spec.attention, spec.dimension) == (family.attention, family.dense or HIDDEN)
    assert manifest.tokenizer.max_length == family.max_length
    assert manifest.student == manifest.teacher
    assert manifest.student.source == str(encoder.source)
    assert list(manifest.metrics) == ["dev/int8", "dev/fp32"]
    assert manifest.calibration.size == len(read_pairs(dev))
    card = (encoder.matcher / "README.md").read_text(encoding="utf-8")
    assert "exported whole, with 2 blocks" in card
    assert "LoRA" not in card


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "encoder", Family("BertConfig", "mean", 66))


def test_the_other_variants_of_an_encoder(bert: Path, dev: Path, tmp_path: Path, wide: ExportOptions) -> None:
    options = replace(wide, variants=("fp16", "int4"))
    manifest = export_encoder(EncoderChoice(str(bert), dev), tmp_path / "m", options)
    assert list(manifest.variants) == ["fp16", "int4"]
    assert manifest.variants["fp16"].drift.max_cosine_change < 0.01
    for variant in manifest.variants.values():
        assert variant.drift.alone_vs_batched <= 1e-5


def test_the_vocabulary_of_an_encoder_is_trimmed_to_texts_of_the_domain(
    bert: Path, dev: Path, tmp_path: Path, wide: ExportOptions
) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("text\ncard lost\nreset my card\n", encoding="utf-8")
    options = replace(wide, variants=("fp32",), vocabulary_size=0)
    manifest = export_encoder(EncoderChoice(str(bert), dev, texts), tmp_path / "m", options)
    assert manifest.trimmed_vocabulary is not None
    assert manifest.trimmed_vocabulary.tokens < manifest.trimmed_vocabulary.base_tokens
    with Matcher.load(tmp_path / "m", device="cpu") as matcher:
        teacher = load_teacher(resolve(str(bert)), 66)
        assert np.abs(matcher.encode(["card lost"]) - teacher.encode(["card lost"])).max() <= 1e-5
    with pytest.raises(ConfigError, match="name them with --texts"):
        export_encoder(EncoderChoice(str(bert), dev), tmp_path / "other", options)


@pytest.mark.parametrize("epochs", [0, 1])
def test_the_teacher_of_a_run_is_exported_as_the_run_measured_it(
    tmp_path: Path, wide: ExportOptions, epochs: int
) -> None:
    run = write_tiny_run(tmp_path / "run", teacher={"epochs": epochs, "max_length": 48}, student={"layer": 1})
    manifest = export(run, tmp_path / "m", replace(wide, variants=("fp32",)), system="teacher")
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    for split in ("dev", "test"):
        assert manifest.metrics[f"{split}/fp32"] == pytest.approx(result["measures"]["teacher"][split], abs=1e-5)
    assert manifest.student.revision == result["teacher"]["revision"]
    assert manifest.encoder.module == WHOLE_ENCODER
    assert manifest.head is None


def refusal(error: type[FlipKDError], choice: EncoderChoice) -> str:
    with pytest.raises(error) as caught:
        encoder_source(choice)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _remote_code(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (directory / "own.py").write_text("raise SystemExit('run')", encoding="utf-8")


def _unknown_module(directory: Path) -> None:
    modules = json.loads((directory / "modules.json").read_text(encoding="utf-8"))
    modules.insert(2, {"idx": 9, "name": "9", "path": "", "type": "sentence_transformers.models.CNN"})
    (directory / "modules.json").write_text(json.dumps(modules), encoding="utf-8")


def _without_tokenizer(directory: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (directory / name).unlink(missing_ok=True)


def _larger_vocabulary(directory: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["bracelet", "allergy"])
    pretrained_tokenizer(tokenizer).save_pretrained(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_remote_code, "Python code of its own"),
        (_unknown_module, "sentence_transformers.models.CNN is not supported"),
        (_without_tokenizer, "no tokenizer there"),
        (_larger_vocabulary, "the two are not of one model"),
        (shutil.rmtree, "no such directory"),
    ],
)
def test_an_unusable_encoder_is_one_clear_error(
    bert: Path, dev: Path, change: Callable[[Path], None], message: str
) -> None:
    change(bert)
    assert message in refusal(ModelSourceError, EncoderChoice(str(bert), dev))


def test_pairs_of_one_label_are_refused(bert: Path, tmp_path: Path) -> None:
    pairs = tiny_pairs(8)
    write_pairs(pairs.take(np.flatnonzero(pairs.label)), tmp_path / "dev.csv")
    refusal(InvalidPairsError, EncoderChoice(str(bert), tmp_path / "dev.csv"))


def test_more_tokens_than_the_encoder_reads_are_refused(bert: Path, dev: Path) -> None:
    assert "reads up to 66 tokens" in refusal(ConfigError, EncoderChoice(str(bert), dev, max_length=67))


def test_a_prompt_of_the_user_replaces_that_of_the_directory(tmp_path: Path, dev: Path) -> None:
    directory = write_encoder(tmp_path / "encoder", Family("BertConfig", "mean", 66, prompt="query: "))
    own, none = (encoder_source(EncoderChoice(str(directory), dev, prompt=prompt)) for prompt in (None, ""))
    pairs = read_pairs(dev)
    plain = load_teacher(resolve(str(directory)), 66, prompt="")
    assert np.allclose(none.cosines, encoder_cosines(plain.encode, pairs))
    assert not np.allclose(own.cosines, none.cosines)


def test_a_teacher_that_was_replaced_since_the_run_is_refused(tmp_path: Path) -> None:
    run = write_tiny_run(tmp_path / "run", student={"layer": 1})
    write_tiny_teacher(tmp_path / "run_inputs" / "teacher", seed=7)
    with pytest.raises(TrainingError, match="not those that taught"):
        export(run, tmp_path / "m", system="teacher")
