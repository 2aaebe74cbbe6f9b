"""Edits of a graph that several variants share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from flipkd_sdk.exporters.graph.nodes import constant

if TYPE_CHECKING:
    from numpy.typing import NDArray


def insert_before(model: ir.Model, node: ir.Node, tape: ir.tape.Tape) -> None:
    """Insert the nodes of a tape before a node, and register the constants of the tape."""
    for value in tape.initializers:
        model.graph.register_initializer(value)
    model.graph.insert_before(node, tape.nodes)


def half(tape: ir.tape.Tape, array: NDArray[np.float32], name: str) -> ir.Value:
    """Return a constant stored as float16; a session casts it to float32 once, when it opens."""
    stored = tape.initializer(ir.tensor(array.astype(np.float16), name=name))
    return tape.op("Cast", [stored], {"to": ir.DataType.FLOAT})


def store_weight_as_half(model: ir.Model, node: ir.Node) -> ir.Node:
    """Store the weight of a layer that computes in float32 as float16.

    Returns:
        The node that casts the weight back to float32.
    """
    tape = ir.tape.Tape()
    node.replace_input_with(1, half(tape, constant(node.inputs[1]), f"{node.name}_half"))
    insert_before(model, node, tape)
    return tape.nodes[-1]


def store_read_out_as_half(model: ir.Model) -> None:
    """Store A, which computes in float32, as float16."""
    for node in [node for node in model.graph if node.op_type == "Gemm"]:
        store_weight_as_half(model, node)
