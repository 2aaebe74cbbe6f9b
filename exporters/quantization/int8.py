"""Static int8: scales are fixed at export or computed per token, so that no score depends on its batch.

The graph contains standard QuantizeLinear and DequantizeLinear nodes, and onnxruntime fuses those of each layer into
one integer matrix product. onnxruntime's own quantizer uses one scale for all tokens and rounds to nearest. Weights
have 7 bits: without VNNI, products of full-range 8-bit values overflow silently on x86.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from flipkd_sdk.exporters.graph.edits import insert_before, store_read_out_as_half, store_weight_as_half
from flipkd_sdk.exporters.graph.nodes import constant, input_of, linear_nodes, token_lookup

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from flipkd_sdk.exporters.quantization.activations import InputStatistics
    from flipkd_sdk.exporters.quantization.gptq import RoundedWeight

_OUTLYING = 3.0
"""Smallest spread with a scale per token; a single scale would leave few steps for ordinary tokens."""
_LEAST = 1e-6
_COLUMN_QUANTILE = 0.999
"""Quantile of a column's absolute values that sets its scale; with the maximum, single tokens would set it."""


def quantize_linear_layers(
    model: ir.Model,
    weights: Mapping[str, RoundedWeight],
    statistics: Mapping[str, InputStatistics],
    *,
    scale_tokens: bool = False,
    keep: Collection[str] = (),
) -> ir.Model:
    """Return a copy of a float32 graph with its linear layers quantized to int8.

    Args:
        model: the smoothed float32 graph; not changed.
        weights: the rounded weights by layer name.
        statistics: of the layers' inputs, by value name.
        scale_tokens: use a scale per token for every input, not only for inputs with outlying tokens.
        keep: names of layers that compute in float32; their weights and A are stored as float16.
    """
    model = model.clone()
    store_read_out_as_half(model)
    inputs: dict[str, tuple[ir.Value, ir.Value | None]] = {}
    for node in linear_nodes(model):
        name, source = str(node.name), input_of(node)
        if name in keep:
            store_weight_as_half(model, node)
            continue
        tape = ir.tape.Tape()
        if source not in inputs:
            inputs[source] = quantized_input(tape, node.inputs[0], statistics[source], scale_tokens=scale_tokens)
        activation, token_scale = inputs[source]
        rounded = weights[name]
        weight = tape.op(
            "DequantizeLinear",
            [
                tape.initializer(ir.tensor(rounded.integers, name=f"{name}_weight")),
                tape.initializer(ir.tensor(rounded.scale, name=f"{name}_weight_scale")),
                tape.initializer(ir.tensor(np.zeros_like(rounded.scale, np.int8), name=f"{name}_weight_zero_point")),
            ],
            {"axis": 1},
        )
        node.replace_input_with(0, activation)
        node.replace_input_with(1, weight)
        insert_before(model, node, tape)
        if token_scale is not None:
            _multiply_output(model, node, token_scale)
    RemoveUnusedNodesPass()(model)
    return model


def quantized_input(
    tape: ir.tape.Tape,
    activation: ir.Value | None,
    statistics: InputStatistics,
    *,
    scale_tokens: bool,
    prefix: str = "",
) -> tuple[ir.Value, ir.Value | None]:
    """Round the input of linear layers to 8 bits.

    Args:
        tape: takes the nodes.
        activation: float32 (batch, seq, channels).
        statistics: of this activation.
        scale_tokens: use a scale per token even if no token is outlying.
        prefix: prefix of the new constants' names; needed if an activation is rounded more than once.

    Returns:
        The rounded activation, and its scale per token (batch, seq, 1) or None. The scale is multiplied before or after
        the matrix product.
    """
    if activation is None:
        raise TypeError("a linear layer without an input")
    name = f"{prefix}{activation.name}"
    token_scale = None
    low, high = statistics.low, statistics.high
    if scale_tokens or statistics.spread >= _OUTLYING:
        last_axis = tape.initializer(ir.tensor(np.array([-1], np.int64), name=f"{name}_axis"))
        least = tape.initializer(ir.tensor(np.float32(_LEAST), name=f"{name}_least"))
        token_scale = tape.op("Max", [tape.op("ReduceMax", [tape.op("Abs", [activation]), last_axis]), least])
        activation = tape.op("Div", [activation, token_scale])
        low, high = -1.0, 1.0
    step = max(high - low, 1e-12) / 255
    scale = tape.initializer(ir.tensor(np.float32(step), name=f"{name}_scale"))
    zero_point = tape.initializer(ir.tensor(np.uint8(round(-low / step)), name=f"{name}_zero_point"))
    integers = tape.op("QuantizeLinear", [activation, scale, zero_point])
    return tape.op("DequantizeLinear", [integers, scale, zero_point]), token_scale


def _multiply_output(model: ir.Model, node: ir.Node, factor: ir.Value) -> None:
    product = node.outputs[0]
    tape = ir.tape.Tape()
    scaled = tape.op("Mul", [product, factor])
    multiplication = scaled.producer()
    for user, index in list(product.uses()):
        if user is not multiplication:
            user.replace_input_with(index, scaled)
    model.graph.insert_after(node, tape.nodes)


def quantize_embedding(model: ir.Model) -> None:
    """Store the token embedding as int8 with a scale per row and per column, in place.

    Gather(E, ids) becomes Cast(Gather(Q, ids)) · Gather(rows, ids) · columns. These operators are standard, and only
    the rows of a batch's tokens are expanded. The column scales halve the error of row scales alone, because
    most rows have their largest values in the same few columns.
    """
    node = token_lookup(model)
    values, ids = constant(node.inputs[0]), node.inputs[1]
    columns = np.maximum(np.quantile(np.abs(values), _COLUMN_QUANTILE, axis=0, keepdims=True), 1e-12)
    rows = np.maximum(np.abs(values / columns).max(axis=1, keepdims=True), 1e-12) / 127
    tape = ir.tape.Tape()
    stored, row_scale, column_scale = (
        tape.initializer(ir.tensor(array, name=f"embedding_{name}"))
        for name, array in (
            ("int8", np.rint(values / columns / rows).astype(np.int8)),
            ("row_scale", rows.astype(np.float32)),
            ("column_scale", columns.astype(np.float32)),
        )
    )
    integers = tape.op("Cast", [tape.op("Gather", [stored, ids])], {"to": ir.DataType.FLOAT})
    scaled = tape.op("Mul", [integers, tape.op("Gather", [row_scale, ids])])
    expanded = tape.op("Mul", [scaled, column_scale])
    insert_before(model, node, tape)
    name = node.outputs[0].name
    ir.convenience.replace_all_uses_with(node.outputs[0], expanded)
    RemoveUnusedNodesPass()(model)
    # The statistics of the graph refer to the value by its name.
    expanded.name = name
