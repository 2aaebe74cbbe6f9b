"""Lookup of the nodes and constants of a graph that quantization works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray


def linear_nodes(model: ir.Model) -> list[ir.Node]:
    """Return the linear layers: the matrix products with a constant two-dimensional right side."""
    return [node for node in model.graph if node.op_type == "MatMul" and _is_matrix(node.inputs[1])]


def input_of(layer: ir.Node) -> str:
    """Return the name of a linear layer's input.

    Raises:
        TypeError: the input has no name.
    """
    value = layer.inputs[0]
    if value is None or value.name is None:
        raise TypeError(f"{layer.name} has no named input")
    return value.name


def constant(value: ir.Value | None) -> NDArray[np.float32]:
    """Return the array of a constant of a graph.

    Raises:
        TypeError: the value is not a constant.
    """
    if value is None or value.const_value is None:
        raise TypeError(f"{value} is not a constant of the graph")
    array: NDArray[np.float32] = value.const_value.numpy()
    return array


def token_lookup(model: ir.Model) -> ir.Node:
    """Return the node that gathers the embedding rows of the token ids.

    Raises:
        StopIteration: the graph has no such node.
    """
    return next(filter(_looks_up_tokens, model.graph))


def _looks_up_tokens(node: ir.Node) -> bool:
    """Return whether a node gathers by ``input_ids``, which GPT-2 reshapes first."""
    if node.op_type != "Gather" or (ids := node.inputs[1]) is None:
        return False
    maker = ids.producer()
    source = maker.inputs[0] if maker is not None and maker.op_type == "Reshape" else ids
    return source is not None and source.name == "input_ids"


def _is_matrix(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 2
