"""Ranking of the linear layers by the change that 8-bit inputs cause in the text vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from flipkd_sdk.exporters.graph.edits import insert_before
from flipkd_sdk.exporters.graph.nodes import input_of, linear_nodes
from flipkd_sdk.exporters.graph.translation import OUTPUT
from flipkd_sdk.exporters.quantization.activations import open_graph
from flipkd_sdk.exporters.quantization.int8 import quantized_input

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from flipkd_sdk.exporters.quantization.activations import InputStatistics
    from flipkd_sdk.exporters.quantization.sample_batches import Batch

_BATCHES = 4
"""Batches that each layer is measured on; a ranking needs no more."""
_ON, _OFF = np.ones((), np.float32), np.zeros((), np.float32)


def most_sensitive(
    model: ir.Model, statistics: Mapping[str, InputStatistics], batches: Sequence[Batch], working: Path
) -> list[str]:
    """Return the names of the linear layers, the most sensitive one first.

    The input of one layer at a time is rounded, and the squared changes of the text vectors are added up. The error
    of a layer's own output would be a worse measure, because later layers amplify or suppress it.

    Args:
        model: a float32 graph.
        statistics: of the layers' inputs, by value name.
        batches: sample inputs.
        working: a directory for the instrumented copy of the graph.
    """
    probed = model.clone()
    switches = {str(node.name): _add_switch(probed, node, statistics[input_of(node)]) for node in linear_nodes(probed)}
    session = open_graph(probed, working)
    moved = dict.fromkeys(switches, 0.0)
    off = dict.fromkeys(switches.values(), _OFF)
    for batch in batches[:: -(-len(batches) // _BATCHES)]:
        (reference,) = session.run([OUTPUT], {**batch, **off})
        for layer, switch in switches.items():
            (vectors,) = session.run([OUTPUT], {**batch, **off, switch: _ON})
            moved[layer] += float(np.square(vectors - reference).sum())
    return sorted(moved, key=moved.__getitem__, reverse=True)


def _add_switch(model: ir.Model, node: ir.Node, statistics: InputStatistics) -> str:
    """Add a graph input that switches the rounding of one layer's input on (1) or off (0).

    Returns:
        The name of the switch.
    """
    activation = node.inputs[0]
    switch = ir.Value(name=f"{node.name}_switch", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([]))
    tape = ir.tape.Tape()
    rounded, token_scale = quantized_input(tape, activation, statistics, scale_tokens=True, prefix=f"{node.name}_")
    if token_scale is not None:
        rounded = tape.op("Mul", [rounded, token_scale])
    error = tape.op("Sub", [rounded, activation])
    node.replace_input_with(0, tape.op("Add", [activation, tape.op("Mul", [error, switch])]))
    insert_before(model, node, tape)
    model.graph.inputs.append(switch)
    return f"{node.name}_switch"
