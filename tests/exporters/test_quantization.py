from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
from families import BATCHES, Exported, graph_vectors, largest_difference

from flipkd_sdk.exporters.activations import channel_maxima, constant, linear_nodes
from flipkd_sdk.exporters.quantization import quantize_embedding, quantize_linear_layers
from flipkd_sdk.exporters.smoothing import smooth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

INTEGERS = (ir.DataType.INT8, ir.DataType.UINT8)


def quantized(exported: Exported, working: Path, *, keep: Sequence[str] = ()) -> ir.Model:
    graph = exported.graph.clone()
    smooth(graph, channel_maxima(graph, BATCHES, working), alpha=0.7)
    ir.save(graph, working / "float.onnx")
    quantize_linear_layers(working / "float.onnx", working / "int8.onnx", BATCHES, keep=keep)
    return ir.load(working / "int8.onnx")


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
        assert np.abs(matrix.astype(int)).max() in (63, 64)
        assert (np.abs(matrix.astype(int)).max(axis=0) >= 63).all(), "each column has a scale of its own"
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


def test_kept_layers_stay_float32(llama: Exported, tmp_path: Path) -> None:
    nodes = linear_nodes(llama.graph)
    keep = [str(nodes[3].name), str(nodes[6].name)]
    model = quantized(llama, tmp_path, keep=keep)
    assert len(weights(model)) == 5
    by_name = {node.name: node for node in model.graph}
    for node in nodes:
        weight = by_name[node.name].inputs[1]
        assert weight is not None
        assert (weight.const_value is not None and weight.dtype == ir.DataType.FLOAT) is (node.name in keep)


def test_an_embedding_row_is_exact_to_half_a_step(family: Exported, tmp_path: Path) -> None:
    model = family.graph.clone()
    vocabulary = family.path.model.config.vocab_size
    embedding = next(value for value in model.graph.initializers.values() if value.shape[0] == vocabulary)
    table = constant(embedding).copy()
    table[0] = 0.0
    embedding.const_value = ir.tensor(table, name=embedding.name)
    quantize_embedding(model)
    rows, scale = (model.graph.initializers[f"embedding_{name}"].const_value.numpy() for name in ("int8", "scale"))
    assert rows.dtype == np.int8
    assert scale.shape == (len(table), 1)
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
    assert saved == pytest.approx(rows * (3 * width - 4), abs=2000)
