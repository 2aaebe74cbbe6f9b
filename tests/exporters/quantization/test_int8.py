from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
from families import BATCHES, Exported, graph_vectors, largest_difference

from flipkd_sdk.exporters.graph.nodes import constant, linear_nodes
from flipkd_sdk.exporters.quantization.activations import channel_maxima, input_statistics
from flipkd_sdk.exporters.quantization.gptq import round_weights
from flipkd_sdk.exporters.quantization.int8 import quantize_embedding, quantize_linear_layers
from flipkd_sdk.exporters.quantization.smoothquant import smooth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flipkd_sdk.exporters.quantization.activations import InputStatistics

INTEGERS = (ir.DataType.INT8, ir.DataType.UINT8)


def quantized(exported: Exported, working: Path, *, keep: Sequence[str] = ()) -> ir.Model:
    graph = exported.graph.clone()
    smooth(graph, channel_maxima(graph, BATCHES, working), alpha=0.7)
    statistics = input_statistics(graph, BATCHES, working)
    return quantize_linear_layers(graph, round_weights(graph, statistics), statistics, keep=keep)


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    """Int8 matrices by name."""
    values = model.graph.initializers.items()
    arrays = {name: value.const_value.numpy() for name, value in values if value.const_value is not None}
    return {name: array for name, array in arrays.items() if array.dtype == np.int8 and array.ndim == 2}


def test_int8_is_close_and_every_linear_layer_has_7_bit_weights(family: Exported, tmp_path: Path) -> None:
    model = quantized(family, tmp_path)
    matrices = weights(model)
    assert len(matrices) == family.family.linear_layers
    for matrix in matrices.values():
        assert np.abs(matrix.astype(int)).max() == 63
        assert (np.abs(matrix.astype(int)).max(axis=0) > 55).all(), "each column has a scale of its own"
    pairs = zip(graph_vectors(model, tmp_path), graph_vectors(family.graph, tmp_path), strict=True)
    moved = np.concatenate([np.abs(int8 - exact).ravel() for int8, exact in pairs])
    # A text whose attention averages random values to nearly nothing may move far.
    assert 1e-4 < np.median(moved) < 0.02


def test_every_scale_is_a_constant(llama: Exported, tmp_path: Path) -> None:
    model = quantized(llama, tmp_path)
    kinds = {node.op_type for node in model.graph}
    assert not [kind for kind in kinds if kind.startswith("Dynamic")]
    scaled = [node for node in model.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {node.op_type for node in scaled} == {"QuantizeLinear", "DequantizeLinear"}
    for node in scaled:
        assert node.inputs[1] is not None
        assert node.inputs[1].const_value is not None


def test_a_tokens_own_scale_keeps_its_precision_beside_an_outlier(llama: Exported, tmp_path: Path) -> None:
    """One scale for all tokens would leave those beside a token a thousand times larger no step at all."""
    graph = llama.graph.clone()
    statistics = input_statistics(graph, BATCHES, tmp_path)
    weights = round_weights(graph, statistics)
    down = str(linear_nodes(graph)[6].name)
    source = str(linear_nodes(graph)[6].inputs[0].name)
    keep = [str(node.name) for node in linear_nodes(graph) if node.name != down]
    seen = statistics[source]
    wide = replace(seen, low=1000 * seen.low, high=1000 * seen.high, spread=1.0)

    def moved(statistic: InputStatistics) -> float:
        model = quantize_linear_layers(graph, weights, {**statistics, source: statistic}, keep=keep)
        return largest_difference(graph_vectors(model, tmp_path), graph_vectors(graph, tmp_path))

    assert moved(replace(wide, spread=1000.0)) < moved(wide) / 10


def test_kept_layers_compute_in_float32_and_are_stored_in_half(llama: Exported, tmp_path: Path) -> None:
    nodes = linear_nodes(llama.graph)
    keep = [str(nodes[3].name), str(nodes[6].name)]
    model = quantized(llama, tmp_path, keep=keep)
    assert len(weights(model)) == 5
    by_name = {node.name: node for node in model.graph}
    for node in nodes:
        stored = by_name[node.name].inputs[1].producer().inputs[0]
        assert stored.dtype == (ir.DataType.FLOAT16 if node.name in keep else ir.DataType.INT8)


def test_an_embedding_row_is_exact_to_half_a_step(family: Exported, tmp_path: Path) -> None:
    model = family.graph.clone()
    vocabulary = family.path.model.config.vocab_size
    embedding = next(value for value in model.graph.initializers.values() if value.shape[0] == vocabulary)
    table = constant(embedding).copy()
    table[0] = 0.0
    embedding.const_value = ir.tensor(table, name=embedding.name)
    quantize_embedding(model)
    rows, row_scale, column_scale = (
        model.graph.initializers[f"embedding_{name}"].const_value.numpy()
        for name in ("int8", "row_scale", "column_scale")
    )
    assert rows.dtype == np.int8
    assert (row_scale.shape, column_scale.shape) == ((len(table), 1), (1, table.shape[1]))
    scale = row_scale * column_scale
    assert (np.abs(rows * scale - table) <= scale / 2 * (1 + 1e-5)).all()
    assert (np.abs(rows[1:].astype(int)).max(axis=1) == 127).all()
    assert embedding.name not in model.graph.initializers, "the float32 table is gone"
    moved = largest_difference(graph_vectors(model, tmp_path), graph_vectors(family.graph, tmp_path))
    assert 0 < moved < 0.05


def test_the_embedding_is_stored_in_a_quarter(llama: Exported, tmp_path: Path) -> None:
    model = llama.graph.clone()
    ir.save(model, tmp_path / "before.onnx")
    quantize_embedding(model)
    ir.save(model, tmp_path / "after.onnx")
    rows, width = model.graph.initializers["embedding_int8"].const_value.shape
    saved = (tmp_path / "before.onnx").stat().st_size - (tmp_path / "after.onnx").stat().st_size
    assert saved == pytest.approx(rows * (3 * width - 4) - 4 * width, abs=2000)
