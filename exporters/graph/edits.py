"""Small steps that the variants' graphs are made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from flipkd_sdk.exporters.quantization.activations import constant

if TYPE_CHECKING:
    from numpy.typing import NDArray


def insert_before(model: ir.Model, node: ir.Node, tape: ir.tape.Tape) -> None:
    """Put a tape's nodes in front of a node, and its constants into the graph."""
    for value in tape.initializers:
        model.graph.register_initializer(value)
    model.graph.insert_before(node, tape.nodes)


def half(tape: ir.tape.Tape, array: NDArray[np.float32], name: str) -> ir.Value:
    """A constant that is stored as float16, and that a session expands to float32 once, when it opens."""
    stored = tape.initializer(ir.tensor(array.astype(np.float16), name=name))
    return tape.op("Cast", [stored], {"to": ir.DataType.FLOAT})


def store_weight_as_half(model: ir.Model, node: ir.Node) -> ir.Node:
    """Store the weight of a layer that computes in float32 as float16.

    Returns:
        The node that expands it.
    """
    tape = ir.tape.Tape()
    node.replace_input_with(1, half(tape, constant(node.inputs[1]), f"{node.name}_half"))
    insert_before(model, node, tape)
    return tape.nodes[-1]


def store_read_out_as_half(model: ir.Model) -> None:
    """Store A, which computes in float32, as float16."""
    for node in [node for node in model.graph if node.op_type == "Gemm"]:
        store_weight_as_half(model, node)


def token_lookup(model: ir.Model) -> ir.Node:
    """The node that takes the rows of the token ids out of the embedding.

    Raises:
        StopIteration: there is none.
    """
    return next(filter(_looks_up_tokens, model.graph))


def _looks_up_tokens(node: ir.Node) -> bool:
    """GPT-2 reshapes the ids first."""
    if node.op_type != "Gather" or (ids := node.inputs[1]) is None:
        return False
    maker = ids.producer()
    source = maker.inputs[0] if maker is not None and maker.op_type == "Reshape" else ids
    return source is not None and source.name == "input_ids"
