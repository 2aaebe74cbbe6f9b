"""Which linear layers to keep in float32 first: those whose 8-bit inputs move the text vectors most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from flipkd_sdk.exporters.activations import input_of, linear_inputs, linear_nodes, open_graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flipkd_sdk.exporters.calibration_data import Batch

_BATCHES = 4
"""Each runs once for every layer, and an estimate of an error needs no more; ranges are taken from all batches."""
_ON, _OFF = np.ones((), np.float32), np.zeros((), np.float32)


def most_sensitive(model: ir.Model, batches: Sequence[Batch], working: Path) -> list[str]:
    """Names of the linear layers, the most sensitive one first.

    One layer's input at a time is rounded to 255 steps over its whole range, as static quantization with one scale
    does, and the squared changes of the text vectors are added up. What the layer's own output loses would not tell:
    it may weigh much or little in what is made of it.

    Args:
        model: a float32 graph.
        batches: sample inputs.
        working: a directory for the instrumented copies of the graph.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for inputs in linear_inputs(model, batches, working):
        for name, activation in inputs.items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(activation.min())), max(high, float(activation.max()))
    probed = model.clone()
    switches = {str(node.name): _add_switch(probed, node, *ranges[input_of(node)]) for node in linear_nodes(probed)}
    session = open_graph(probed, working)
    moved = dict.fromkeys(switches, 0.0)
    off = dict.fromkeys(switches.values(), _OFF)
    for batch in batches[:: -(-len(batches) // _BATCHES)]:
        (reference,) = session.run(None, {**batch, **off})
        for layer, switch in switches.items():
            (vectors,) = session.run(None, {**batch, **off, switch: _ON})
            moved[layer] += float(np.square(vectors - reference).sum())
    return sorted(moved, key=moved.__getitem__, reverse=True)


def _add_switch(model: ir.Model, node: ir.Node, low: float, high: float) -> str:
    """Give the graph an input that rounds the input of one layer where it is 1, and not where it is 0.

    Args:
        model: the graph.
        node: the layer.
        low: the least that reaches the layer, or 0.
        high: the most that reaches it, or 0.

    Returns:
        The input's name.
    """
    activation = node.inputs[0]
    switch = ir.Value(name=f"{node.name}_switch", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([]))
    step = max(high - low, 1e-12) / 255
    tape = ir.tape.Tape()
    scale = tape.initializer(ir.tensor(np.float32(step), name=f"{node.name}_scale"))
    zero_point = tape.initializer(ir.tensor(np.uint8(round(-low / step)), name=f"{node.name}_zero_point"))
    quantized = tape.op("QuantizeLinear", [activation, scale, zero_point])
    error = tape.op("Sub", [tape.op("DequantizeLinear", [quantized, scale, zero_point]), activation])
    node.replace_input_with(0, tape.op("Add", [activation, tape.op("Mul", [error, switch])]))
    for value in tape.initializers:
        model.graph.register_initializer(value)
    model.graph.insert_before(node, tape.nodes)
    model.graph.inputs.append(switch)
    return f"{node.name}_switch"
