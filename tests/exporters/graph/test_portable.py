"""A graph of opset 17 computes what the graph of opset 23 does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from families import BATCHES, Exported, graph_vectors, largest_difference

from flipkd_sdk.artifact.limits import LIMITS
from flipkd_sdk.errors import ConfigError, VerificationError
from flipkd_sdk.exporters.export import ExportOptions
from flipkd_sdk.exporters.graph.portable import OPSET, make_portable
from flipkd_sdk.exporters.quantization.activations import open_graph

if TYPE_CHECKING:
    from pathlib import Path


def test_a_portable_graph_computes_the_same(family: Exported, tmp_path: Path) -> None:
    before = graph_vectors(family.graph, tmp_path)
    portable = make_portable(family.graph)
    assert largest_difference(graph_vectors(portable, tmp_path), before) <= 1e-5
    assert largest_difference(graph_vectors(family.graph, tmp_path), before) == 0, "the given graph was changed"


def test_every_operator_is_of_opset_17(llama: Exported) -> None:
    model = ir.to_proto(make_portable(llama.graph))
    onnx.checker.check_model(model)
    assert [(imported.domain, imported.version) for imported in model.opset_import] == [("", OPSET)]
    assert all(onnx.defs.has(node.op_type, OPSET) for node in model.graph.node)


def test_the_quantized_variant_of_a_matcher_computes_the_same(exported_matcher: Path, tmp_path: Path) -> None:
    model = ir.load(exported_matcher / "model_int8.onnx")
    sessions = [open_graph(graph, tmp_path) for graph in (model, make_portable(model))]
    for batch in BATCHES:
        one, other = (session.run(None, batch)[0] for session in sessions)
        assert np.abs(one - other).max() <= 1e-4


def graph_of(node: ir.Node) -> ir.Model:
    graph = ir.Graph([value for value in node.inputs if value is not None], node.outputs, nodes=[node], name="one")
    graph.opset_imports[""] = 23
    return ir.Model(graph, ir_version=10)


def value(name: str, *shape: int | str) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (ir.node("Swish", [value("x", 2, 3)]), "Swish"),
        (ir.node("MatMulNBits", [value("x", 2, 3)], domain="com.microsoft"), "com.microsoft::MatMulNBits"),
        (ir.node("RMSNormalization", [value("x", 2, 3), value("s", 3)], {"axis": 0}), "over several axes"),
        (
            ir.node(
                "RotaryEmbedding",
                [value("x", 1, 2, 3, 4), value("c", 1, 3, 2), value("s", 1, 3, 2)],
                {"interleaved": 1},
            ),
            "interleaved",
        ),
        (ir.node("Attention", [value("q", 1, 2, 3, 4)] * 3, {"softcap": 50.0}), "softcap"),
        (ir.node("Attention", [value("q", 1, 2, 8)] * 3), "without four dimensions"),
    ],
)
def test_an_operator_without_decomposition_is_one_clear_error(node: ir.Node, message: str) -> None:
    node.outputs[0].name = "y"
    with pytest.raises(VerificationError, match=message) as caught:
        make_portable(graph_of(node))
    assert str(caught.value).endswith("export without --portable")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["fp16", "int4"])
def test_variants_for_one_runtime_are_not_portable(precision: str) -> None:
    with pytest.raises(ConfigError, match=f"{precision} is made for one runtime"):
        ExportOptions(variants=("int8", precision), portable=True, limits=LIMITS)
