"""A toy matcher directory, made without torch: a byte-level BPE tokenizer and one attention layer with random weights.

Small as it is, its graph has what makes real encoders depend on their batch: attention over padded positions, matrix
products, pooling and normalization.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from flipkd_sdk.artifact.familiarity import FILE, fit_sketch, write_sketch
from flipkd_sdk.artifact.manifest import (
    MANIFEST_FILE,
    Drift,
    EncoderSpec,
    FamiliarityFile,
    Manifest,
    ModelReference,
    SelfTestFile,
    TokenizerSpec,
    Variant,
    read_manifest,
    sha256_of,
)
from flipkd_sdk.artifact.reference_vectors import SELF_TEST_FILE, SelfTest, write_self_test
from flipkd_sdk.evaluation.calibration import Calibration
from flipkd_sdk.exporters.directory.profile import add_profile
from flipkd_sdk.runtimes.load import LoadOptions, open_matcher
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.reference_vectors import as_tokens, made_up_sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.pairs import Pairs

TEXTS = (
    "How do I reset my card PIN?",
    "I forgot the PIN of my card, what now?",
    "Where can I see my last payments?",
    "My transfer has not arrived yet.",
    "Is there a fee for withdrawing cash abroad?",
    "如何重置我的密码？",
    "Top up",
    "",
    "   ",
    "Please tell me, in as many words as you need, how a payment that was declined twice can be tried again tomorrow.",
)
"""Of many lengths, one without tokens, one longer than the tiny matcher reads."""

CALIBRATION = Calibration(slope=6.0, intercept=-3.0, threshold=0.5, objective="f1", size=40)


def byte_level_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE, as SmolLM2, Qwen and GPT-2 have it, trained on texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tiny_tokenizer() -> Tokenizer:
    """Any text can be read, and as no special token is added, an empty one has no tokens."""
    return byte_level_tokenizer(TEXTS, 340)


def tiny_model(*, vocabulary: int, dimension: int, seed: int = 0, hidden: int = 24, grid: float | None = None) -> bytes:
    """One attention layer, a mean over the real tokens, a projection to ``dimension`` and a normalization.

    Args:
        grid: round the weights to multiples of it, which makes another variant of the same model.
    """
    random = np.random.default_rng(seed)
    shapes = {"embedding": (vocabulary, hidden), "key": (hidden, hidden), "mix": (hidden, hidden)}
    weights = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    weights["read_out"] = random.standard_normal((hidden, dimension))
    weights = {name: values / np.sqrt(hidden) * 2 for name, values in weights.items()}
    if grid is not None:
        weights = {name: np.round(values / grid) * grid for name, values in weights.items()}
    constants = {
        **{name: values.astype(np.float32) for name, values in weights.items()},
        "one": np.float32(1),
        "far": np.float32(1e9),
        "axis_1": np.array([1], dtype=np.int64),
        "axis_last": np.array([2], dtype=np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "axis_1"], ["mask_row"]),
        node("Unsqueeze", ["mask", "axis_last"], ["mask_column"]),
        node("Gather", ["embedding", "input_ids"], ["x"]),
        node("MatMul", ["x", "key"], ["k"]),
        node("Transpose", ["k"], ["k_t"], perm=[0, 2, 1]),
        node("MatMul", ["x", "k_t"], ["raw_attention"]),
        node("Sub", ["mask_row", "one"], ["hidden_positions"]),
        node("Mul", ["hidden_positions", "far"], ["bias"]),
        node("Add", ["raw_attention", "bias"], ["biased_attention"]),
        node("Softmax", ["biased_attention"], ["attention"], axis=-1),
        node("MatMul", ["attention", "x"], ["context"]),
        node("Add", ["x", "context"], ["residual"]),
        node("MatMul", ["residual", "mix"], ["mixed"]),
        node("Tanh", ["mixed"], ["h"]),
        node("Mul", ["h", "mask_column"], ["real"]),
        node("ReduceSum", ["real", "axis_1"], ["sum"], keepdims=0),
        node("ReduceSum", ["mask", "axis_1"], ["count"], keepdims=1),
        node("Div", ["sum", "count"], ["mean"]),
        node("MatMul", ["mean", "read_out"], ["z"]),
        node("LpNormalization", ["z"], ["sentence_embedding"], axis=-1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "sequence"]),
        ],
        [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", dimension])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    content: bytes = model.SerializeToString()
    return content


def write_tiny_matcher(
    path: Path,
    *,
    tokenizer: Tokenizer | None = None,
    dimension: int = 16,
    seed: int = 0,
    max_length: int = 32,
    precisions: Sequence[str] = ("fp32",),
    calibration: Calibration = CALIBRATION,
) -> Path:
    """Write a matcher directory with a variant per precision; every one but fp32 has coarser weights."""
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer or tiny_tokenizer()
    tokenizer.save(str(path / "tokenizer.json"))
    variants = {}
    for precision in precisions:
        file = path / f"model_{precision}.onnx"
        grid = None if precision == "fp32" else 1 / 16
        file.write_bytes(tiny_model(vocabulary=tokenizer.get_vocab_size(), dimension=dimension, seed=seed, grid=grid))
        variants[precision] = Variant(
            file=file.name,
            sha256=sha256_of(file),
            bytes=file.stat().st_size,
            providers=("CPUExecutionProvider",),
            instruction_sets=(),
            drift=Drift(1.0, 0.0, 0.0, 0.0, 0.0),
        )
    write_manifest(path, _manifest(path / "tokenizer.json", variants, dimension, max_length, calibration))
    return path


def replace_model(path: Path, content: bytes, *, precision: str = "fp32") -> None:
    """Put another model into a matcher directory, as an exporter would: with its hash in the manifest."""
    manifest = read_manifest(path)
    file = path / manifest.variant(precision).file
    file.write_bytes(content)
    variant = replace(manifest.variant(precision), sha256=sha256_of(file), bytes=len(content))
    write_manifest(path, replace(manifest, variants={**manifest.variants, precision: variant}))


def replace_tokenizer(path: Path, content: bytes) -> None:
    """Put another tokenizer file into a matcher directory, with its hash in the manifest."""
    manifest = read_manifest(path)
    file = path / manifest.tokenizer.file
    file.write_bytes(content)
    spec = replace(manifest.tokenizer, sha256=sha256_of(file), bytes=len(content))
    write_manifest(path, replace(manifest, tokenizer=spec))


def add_self_test(
    path: Path,
    *,
    instruction_sets: tuple[str, ...] = ("another",),
    vectors: Mapping[str, NDArray[np.float32]] | None = None,
) -> None:
    """Write the self-test of a matcher directory, as an exporter on a CPU with other instruction sets would.

    Args:
        vectors: what came out there, by precision; what comes out here for the others.
    """
    manifest = read_manifest(path)
    texts = made_up_sample(path, manifest)
    found = {}
    for precision in manifest.variants:
        opened = open_matcher(path, LoadOptions(device="cpu", precision=precision), self_test=False)
        found[precision] = opened.encoder.encode_tokens(as_tokens(texts))
    write_self_test(path / SELF_TEST_FILE, SelfTest(texts, {**found, **(vectors or {})}))
    variants = {
        name: replace(variant, instruction_sets=instruction_sets) for name, variant in manifest.variants.items()
    }
    write_manifest(path, replace(manifest, variants=variants, self_test=named(path / SELF_TEST_FILE)))


def add_sketch(path: Path, train: Sequence[str], held_out: Sequence[str]) -> None:
    """Write the familiarity sketch of a matcher directory, as an exporter does."""
    with Matcher.load(path, device="cpu", on_truncate="ignore") as matcher:
        sketch = fit_sketch(matcher.encode(train), matcher.encode(held_out))
    write_sketch(path / FILE, sketch)
    file = named(path / FILE)
    described = FamiliarityFile(file.file, file.sha256, file.bytes, len(train), len(held_out))
    write_manifest(path, replace(read_manifest(path), familiarity=described))


def add_domain(path: Path, train: Sequence[str], pairs: Pairs) -> None:
    """Write the familiarity sketch and the profile of a matcher directory, as an exporter does."""
    add_sketch(path, train, pairs.texts)
    write_manifest(path, add_profile(read_manifest(path), path, train, [pairs]))


def named(file: Path) -> SelfTestFile:
    """A file as the manifest names it."""
    return SelfTestFile(file.name, sha256_of(file), file.stat().st_size)


def write_manifest(path: Path, manifest: Manifest) -> None:
    (path / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")


def _manifest(
    tokenizer: Path, variants: Mapping[str, Variant], dimension: int, max_length: int, calibration: Calibration
) -> Manifest:
    vocabulary = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    return Manifest(
        sdk_version="0.1.0",
        created="2025-01-01T00:00:00+00:00",
        student=ModelReference("tiny-student", "0", "Apache-2.0"),
        teacher=ModelReference("tiny-teacher", "0", "Apache-2.0"),
        encoder=EncoderSpec(layer=0, module="q_proj", pooling="mean", attention="bidirectional", dimension=dimension),
        tokenizer=TokenizerSpec(
            file=tokenizer.name,
            sha256=sha256_of(tokenizer),
            bytes=tokenizer.stat().st_size,
            max_length=max_length,
            empty_token_id=vocabulary.get("</s>", 0),
            special_tokens=(),
        ),
        variants=variants,
        calibration=calibration,
        metrics={},
    )
