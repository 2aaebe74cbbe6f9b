from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
from families import BATCHES, Exported, graph_vectors, largest_difference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flipkd_sdk.exporters.graph.nodes import constant, input_of, linear_nodes
from flipkd_sdk.exporters.quantization.activations import channel_maxima, open_graph
from flipkd_sdk.exporters.quantization.smoothquant import smooth

if TYPE_CHECKING:
    from pathlib import Path


def test_every_input_that_can_be_reached_is_smoothed_exactly(family: Exported, tmp_path: Path) -> None:
    graph = family.graph.clone()
    maxima = channel_maxima(graph, BATCHES, tmp_path)
    assert len(maxima) == family.family.inputs
    assert smooth(graph, maxima, alpha=0.7) == family.family.folds
    smoothed = channel_maxima(graph, BATCHES, tmp_path)
    changed = [name for name, largest in maxima.items() if not np.allclose(largest, smoothed[name], rtol=0.01)]
    assert len(changed) == family.family.folds, "the activations themselves are other ones now"
    assert largest_difference(graph_vectors(graph, tmp_path), graph_vectors(family.graph, tmp_path)) <= 1e-5


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(alpha=st.floats(0, 1), seed=st.integers(0, 2**32 - 1), decades=st.floats(0, 3))
def test_no_factor_moves_a_vector(family: Exported, tmp_path: Path, alpha: float, seed: int, decades: float) -> None:
    random = np.random.default_rng(seed)
    graph = family.graph.clone()
    maxima = {
        input_of(node): (10 ** random.uniform(-decades, decades, constant(node.inputs[1]).shape[0])).astype(np.float32)
        for node in linear_nodes(graph)
    }
    smooth(graph, maxima, alpha=alpha)
    assert largest_difference(graph_vectors(graph, tmp_path), graph_vectors(family.graph, tmp_path)) <= 1e-5


def test_an_outlier_moves_into_the_weights(llama: Exported, tmp_path: Path) -> None:
    graph = llama.graph.clone()
    norm = next(node for node in graph.graph if node.op_type == "RMSNormalization").inputs[1]
    assert norm is not None
    weight = constant(norm).copy()
    weight[3] = 100.0
    norm.const_value = ir.tensor(weight, name=norm.name)
    before = channel_maxima(graph, BATCHES, tmp_path)
    smooth(graph, before, alpha=0.7)
    after = channel_maxima(graph, BATCHES, tmp_path)
    name = input_of(linear_nodes(graph)[0])
    peak = [largest[name].max() / np.median(largest[name]) for largest in (before, after)]
    assert peak[0] > 50
    assert peak[1] < 10


def small_graph(*nodes: tuple[str, list[str], str], **constants: object) -> ir.Model:
    """Nodes of (operator, inputs, output); ``x`` goes in, ``y`` comes out."""
    values = {
        name: ir.Value(name=name, const_value=ir.tensor(np.asarray(array, np.float32), name=name))
        for name, array in constants.items()
    }
    inner = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 3]))
    known = {"x": inner, **values}
    made = []
    for kind, inputs, output in nodes:
        node = ir.node(kind, [known[name] for name in inputs], name=output)
        node.outputs[0].name = output
        known[output] = node.outputs[0]
        made.append(node)
    graph = ir.Graph([inner], [known["y"]], nodes=made, initializers=list(values.values()), opset_imports={"": 23})
    return ir.Model(graph, ir_version=10)


MATRIX = np.arange(9.0).reshape(3, 3)


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([("MatMul", ["x", "w"], "y")], id="input of the graph"),
        pytest.param([("Tanh", ["x"], "h"), ("MatMul", ["h", "w"], "y")], id="nonlinearity"),
        pytest.param(
            [
                ("MatMul", ["x", "w"], "u"),
                ("Mul", ["u", "x"], "h"),
                ("MatMul", ["h", "v"], "p"),
                ("Add", ["p", "h"], "y"),
            ],
            id="product that is read by something else as well",
        ),
        pytest.param(
            [
                ("RMSNormalization", ["x", "s"], "h"),
                ("MatMul", ["h", "w"], "p"),
                ("RMSNormalization", ["p", "s"], "y"),
            ],
            id="normalization that shares its weight",
        ),
        pytest.param(
            [
                ("RMSNormalization", ["x", "s"], "h"),
                ("MatMul", ["h", "w"], "p"),
                ("Tanh", ["p"], "t"),
                ("MatMul", ["t", "w"], "y"),
            ],
            id="layer that shares its weight",
        ),
        pytest.param(
            [("MatMul", ["x", "column"], "u"), ("Mul", ["u", "x"], "h"), ("MatMul", ["h", "w"], "y")],
            id="factor that is repeated over the channels",
        ),
        pytest.param(
            [
                ("MatMul", ["x", "w"], "u"),
                ("Mul", ["u", "x"], "h"),
                ("MatMul", ["h", "v"], "p"),
                ("Add", ["p", "u"], "y"),
            ],
            id="factor that is read elsewhere as well",
        ),
    ],
)
def test_what_cannot_be_folded_is_left_alone(nodes: list[tuple[str, list[str], str]]) -> None:
    graph = small_graph(*nodes, w=MATRIX, v=MATRIX + 1, s=np.ones(3), column=np.ones((3, 1)))
    maxima = {input_of(node): np.array([1, 10, 100], np.float32) for node in linear_nodes(graph)}
    before = {name: constant(value) for name, value in graph.graph.initializers.items()}
    assert smooth(graph, maxima, alpha=0.5) == 0
    for name, value in graph.graph.initializers.items():
        assert np.array_equal(constant(value), before[name])


def test_a_residual_sum_gets_a_normalization_back_as_it_was(tmp_path: Path) -> None:
    """BERT's blocks normalize behind the sum, so the next sum reads the normalization too."""
    nodes = [("LayerNormalization", ["x", "s", "b"], "h"), ("MatMul", ["h", "w"], "p"), ("Add", ["h", "p"], "y")]
    graph = small_graph(*nodes, w=MATRIX, s=np.array([1, 2, 3]), b=np.array([0, 1, -1]))
    inputs = {"x": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)}
    (before,) = open_graph(graph, tmp_path).run(["y"], inputs)
    assert smooth(graph, {"h": np.array([1, 10, 100], np.float32)}, alpha=0.5) == 1
    assert not np.array_equal(constant(graph.graph.initializers["w"]), MATRIX)
    (after,) = open_graph(graph, tmp_path).run(["y"], inputs)
    assert np.abs(after - before).max() <= 1e-4


def test_a_bias_is_divided_with_its_weight() -> None:
    graph = small_graph(
        ("MatMul", ["x", "w"], "p"),
        ("Add", ["p", "b"], "u"),
        ("Mul", ["u", "x"], "h"),
        ("MatMul", ["h", "v"], "y"),
        w=MATRIX,
        b=np.ones(3),
        v=np.ones((3, 3)),
    )
    assert smooth(graph, {"x": np.ones(3, np.float32), "h": np.array([1, 16, 81], np.float32)}, alpha=0.5) == 1
    values = {name: constant(value) for name, value in graph.graph.initializers.items()}
    assert values["b"] == pytest.approx(np.array([1, 1 / 4, 1 / 9]))
    assert values["w"] == pytest.approx(MATRIX / [1, 4, 9])
    assert values["v"] == pytest.approx(np.ones((3, 3)) * [[1], [4], [9]])
