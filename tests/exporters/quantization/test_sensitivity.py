from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
from families import BATCHES, Exported, graph_vectors, largest_difference

from flipkd_sdk.exporters.graph.nodes import constant, linear_nodes
from flipkd_sdk.exporters.quantization.activations import input_statistics
from flipkd_sdk.exporters.quantization.sensitivity import most_sensitive

if TYPE_CHECKING:
    from pathlib import Path

Q, K, V, O, GATE, UP, DOWN = range(7)  # noqa: E741 - the names of the layers
"""In the order in which the graph computes them."""


def ranked(graph: ir.Model, working: Path) -> list[str]:
    return most_sensitive(graph, input_statistics(graph, BATCHES, working), BATCHES, working)


def scale(node: ir.Node, factor: object) -> None:
    weight = node.inputs[1]
    assert weight is not None
    weight.const_value = ir.tensor((constant(weight) * factor).astype(np.float32), name=weight.name)


def plant_outliers(graph: ir.Model, producer: int, consumer: int) -> str:
    """Make one channel between two layers a thousand times larger, and what reads it as much smaller."""
    layers = linear_nodes(graph)
    factor = np.where(np.arange(constant(layers[producer].inputs[1]).shape[1]) == 2, 1000.0, 1.0)
    scale(layers[producer], factor)
    repeats = constant(layers[consumer].inputs[1]).shape[0] // len(factor)
    spread = np.repeat(factor.reshape(-1, 1, 8), repeats, axis=1).reshape(-1) if repeats > 1 else factor
    scale(layers[consumer], 1 / spread[:, None])
    return str(layers[consumer].name)


@pytest.mark.parametrize(("producer", "consumer"), [(UP, DOWN), (V, O)])
def test_a_layer_with_planted_outliers_comes_first(
    llama: Exported, tmp_path: Path, producer: int, consumer: int
) -> None:
    graph = llama.graph.clone()
    planted = plant_outliers(graph, producer, consumer)
    assert largest_difference(graph_vectors(graph, tmp_path), graph_vectors(llama.graph, tmp_path)) <= 1e-4
    ranking = ranked(graph, tmp_path)
    assert ranking[0] == planted
    assert sorted(ranking) == sorted(str(node.name) for node in linear_nodes(graph))
    assert ranked(llama.graph, tmp_path)[0] != planted


def test_a_layer_that_changes_nothing_comes_last_whatever_it_loses_itself(llama: Exported, tmp_path: Path) -> None:
    graph = llama.graph.clone()
    layers = linear_nodes(graph)
    plant_outliers(graph, UP, DOWN)
    scale(layers[DOWN], 1e-9)
    assert ranked(graph, tmp_path)[-1] == layers[DOWN].name


def test_the_graph_itself_is_left_as_it_is(llama: Exported, tmp_path: Path) -> None:
    before = ir.to_proto(llama.graph).SerializeToString(deterministic=True)
    ranked(llama.graph, tmp_path)
    assert ir.to_proto(llama.graph).SerializeToString(deterministic=True) == before
    assert not list(tmp_path.iterdir())
