from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from families import BATCHES, Exported, graph_vectors, largest_difference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flipkd_sdk.exporters.graph.nodes import constant, input_of, linear_nodes, token_lookup
from flipkd_sdk.exporters.quantization.activations import input_statistics
from flipkd_sdk.exporters.quantization.int4 import (
    EMBEDDING_BLOCK,
    LINEAR_BLOCK,
    block_scale,
    quantize_blockwise,
    round_blockwise,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def stored(model: ir.Model, *types: ir.DataType) -> Iterator[tuple[int, ...]]:
    """Shapes of the constants of some types."""
    for value in model.graph.initializers.values():
        if value.dtype in types and value.shape is not None:
            yield tuple(value.shape.numpy())


def to_nearest(values: np.ndarray, scale: np.ndarray, block: int) -> np.ndarray:
    spread = np.repeat(scale, block, axis=0)[: len(values)]
    return np.clip(np.rint(values / spread), -8, 7) * spread


def test_every_layer_and_the_embedding_have_4_bits_and_a_has_16(family: Exported, tmp_path: Path) -> None:
    model = quantize_blockwise(family.graph, input_statistics(family.graph, BATCHES, tmp_path))
    kinds = [node.op_type for node in model.graph]
    assert kinds.count("MatMulNBits") == family.family.linear_layers
    assert kinds.count("GatherBlockQuantized") == 1
    assert not linear_nodes(model)
    config = family.path.model.config
    assert list(stored(model, ir.DataType.INT4)) == [(config.vocab_size, config.hidden_size)]
    assert (family.path.encoder_weight.shape in list(stored(model, ir.DataType.FLOAT16))) == ("Gemm" in kinds)
    large = [shape for shape in stored(model, ir.DataType.FLOAT) if len(shape) == 2 and min(shape) > 8]
    assert large == ([(config.n_positions, config.hidden_size)] if family.name == "GPT-2" else [])
    pairs = zip(graph_vectors(model, tmp_path), graph_vectors(family.graph, tmp_path), strict=True)
    moved = np.concatenate([np.abs(int4 - exact).ravel() for int4, exact in pairs])
    # A text whose attention averages random values to nearly nothing may move far.
    assert 1e-4 < np.median(moved) < 0.1


def test_onnxruntime_reads_what_was_rounded(family: Exported, tmp_path: Path) -> None:
    """Packing, block sizes and signs of scales, where widths are no multiple of a block, too."""
    statistics = input_statistics(family.graph, BATCHES, tmp_path)
    expanded = family.graph.clone()
    for node in linear_nodes(expanded):
        rounded = round_blockwise(constant(node.inputs[1]), statistics[input_of(node)].gram)
        spread = np.repeat(rounded.scale, LINEAR_BLOCK, axis=0)[: len(rounded.integers)]
        node.inputs[1].const_value = ir.tensor(rounded.integers * spread)
    embedding = token_lookup(expanded).inputs[0]
    table = constant(embedding)
    scale = block_scale(table.T, np.ones(table.shape[1]), block=EMBEDDING_BLOCK)
    embedding.const_value = ir.tensor(np.ascontiguousarray(to_nearest(table.T, scale, EMBEDDING_BLOCK).T))
    for node in expanded.graph:
        if node.op_type == "Gemm":
            half = constant(node.inputs[1]).astype(np.float16).astype(np.float32)
            node.inputs[1].const_value = ir.tensor(half)
    model = quantize_blockwise(family.graph, statistics)
    assert largest_difference(graph_vectors(model, tmp_path), graph_vectors(expanded, tmp_path)) <= 1e-4


def test_the_outputs_lose_less_than_by_rounding_to_nearest() -> None:
    draw = np.random.default_rng(0)
    sample = draw.standard_normal((500, 12)) @ draw.standard_normal((12, 80)) + 0.1 * draw.standard_normal((500, 80))
    weight = draw.standard_normal((80, 9)).astype(np.float32)
    rounded = round_blockwise(weight, sample.T @ sample)

    def loss(values: np.ndarray) -> float:
        return float(np.square(sample @ (values - weight)).sum())

    spread = np.repeat(rounded.scale, LINEAR_BLOCK, axis=0)[: len(weight)]
    assert loss(rounded.integers * spread) < 0.5 * loss(to_nearest(weight, rounded.scale, LINEAR_BLOCK))


WEIGHTS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 70), st.integers(1, 5)), elements=st.floats(-1e3, 1e3, width=32)
)


@given(WEIGHTS, st.integers(0, 5))
def test_any_weight_and_any_sample_give_4_bits(weight: np.ndarray, tokens: int) -> None:
    sample = np.random.default_rng(0).standard_normal((tokens, len(weight)))
    rounded = round_blockwise(weight, sample.T @ sample)
    assert rounded.integers.shape == weight.shape
    assert rounded.integers.min() >= -8
    assert rounded.integers.max() <= 7
    assert rounded.scale.shape == (-(-len(weight) // LINEAR_BLOCK), weight.shape[1])
    assert (rounded.scale != 0).all()
    assert (rounded.scale == rounded.scale.astype(np.float16)).all()


@given(WEIGHTS)
def test_no_block_loses_by_clipping(weight: np.ndarray) -> None:
    """The scale that clips nothing is one of those that are tried."""
    scale = block_scale(weight, np.ones(len(weight)), block=16)
    for start, chosen in zip(range(0, len(weight), 16), scale, strict=True):
        block = weight[start : start + 16]
        peak = np.take_along_axis(block, np.abs(block).argmax(axis=0)[None], axis=0)
        plain = (peak / -8).astype(np.float16).astype(np.float32)
        plain[plain == 0] = 2**-24
        loss = [np.square(to_nearest(block, steps, 16) - block).sum(axis=0) for steps in (chosen[None], plain)]
        assert (loss[0] <= loss[1] * 1.001 + 1e-12).all()


def test_the_values_that_count_more_are_kept_closer() -> None:
    weight = np.linspace(0.02, 1.0, 32, dtype=np.float32)[:, None]
    importance = np.where(np.arange(32) < 24, 100.0, 0.0)
    plain, weighted = (block_scale(weight, worth, block=32) for worth in (np.ones(32), importance))
    error = [np.abs(to_nearest(weight, scale, 32) - weight)[:24].mean() for scale in (plain, weighted)]
    assert error[1] < error[0]
