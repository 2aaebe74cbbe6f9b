from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
from families import BATCHES, Exported, graph_vectors, largest_difference

from flipkd_sdk.exporters.graph.nodes import constant, linear_nodes, token_lookup
from flipkd_sdk.exporters.quantization.activations import largest_values
from flipkd_sdk.exporters.quantization.fp16 import convert_to_fp16

if TYPE_CHECKING:
    from pathlib import Path

HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def test_halves_are_close_and_half_as_large(family: Exported, tmp_path: Path) -> None:
    model = convert_to_fp16(family.graph, BATCHES, tmp_path)
    assert 0 < largest_difference(graph_vectors(model, tmp_path), graph_vectors(family.graph, tmp_path)) < 0.02
    values = model.graph.initializers.values()
    weights = [value for value in values if value.shape is not None and len(value.shape) == 2 and value.dtype == FLOAT]
    assert not [value for value in weights if value.const_value.size > 64]
    assert [(value.name, value.dtype) for value in model.graph.outputs] == [("sentence_embedding", FLOAT)]
    assert {node.inputs[0].dtype for node in linear_nodes(model)} == {HALF}


def test_angles_and_read_out_stay_float32(llama: Exported, tmp_path: Path) -> None:
    model = convert_to_fp16(llama.graph, BATCHES, tmp_path)
    exact = [node for node in model.graph if node.op_type in ("Cos", "Sin", "Gemm", "Div")]
    assert {node.op_type for node in exact} == {"Cos", "Sin", "Gemm", "Div"}
    for node in exact:
        assert node.outputs[0].dtype != HALF, node.name
        assert [value.dtype for value in node.inputs].count(HALF) == 0, node.name
    (gemm,) = [node for node in exact if node.op_type == "Gemm"]
    assert gemm.inputs[1].producer().inputs[0].dtype == HALF, "A is stored as float16"


def test_what_leaves_the_range_of_float16_stays_float32(llama: Exported, tmp_path: Path) -> None:
    """A residual stream of a hundred thousand is nothing to the normalizations that read it."""
    graph = llama.graph.clone()
    embedding = token_lookup(graph).inputs[0]
    table = constant(embedding)
    embedding.const_value = ir.tensor(table * np.float32(1e5 / np.abs(table).max()), name=embedding.name)
    largest = largest_values(graph, BATCHES, tmp_path)
    assert largest[str(token_lookup(graph).outputs[0].name)] == pytest.approx(1e5, rel=0.3)
    model = convert_to_fp16(graph, BATCHES, tmp_path)
    assert largest_difference(graph_vectors(model, tmp_path), graph_vectors(graph, tmp_path)) < 0.02
    adds = [node for node in model.graph if node.op_type == "Add" and node.outputs[0].shape is not None]
    assert adds
    assert HALF not in {value.dtype for node in adds for value in (*node.inputs, *node.outputs)}
    assert HALF in {node.inputs[0].dtype for node in linear_nodes(model)}
