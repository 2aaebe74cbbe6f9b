"""fp16: half the size of the float32 file, for the float16 matrix units of CUDA devices.

float16 ends at 65,504 and has three significant digits. Three parts of the graph stay float32: the angles of rotary
position embeddings, because they grow with the position; pooling, A and normalization, because they cost next to
nothing; and values near the end of the range on a sample, such as the residual stream of some models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from flipkd_sdk.exporters.graph.edits import store_read_out_as_half, store_weight_as_half
from flipkd_sdk.exporters.graph.nodes import constant, linear_nodes, token_lookup
from flipkd_sdk.exporters.quantization.activations import largest_values
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from flipkd_sdk.exporters.quantization.sample_batches import Batch

_LARGE = 65504 / 8
"""Largest value computed in float16; other texts may exceed the sample."""
_MASKING = float(np.finfo(np.float32).max) / 2
"""Smallest value that represents infinity in a mask; the largest float16 number represents it as well."""
_STATES = ("RMSNormalization", "LayerNormalization", "Attention")
"""Operators besides linear layers that compute the input of the read-out."""


def convert_to_fp16(model: ir.Model, batches: Sequence[Batch], working: Path) -> ir.Model:
    """Return a copy of a float32 graph that computes in float16 where that is precise enough.

    Args:
        model: the float32 graph; not changed.
        batches: sample inputs, for the range of each value.
        working: a directory for the instrumented copy of the graph.
    """
    model = model.clone()
    linear = set(linear_nodes(model))
    kept = set(_large(model, largest_values(model, batches, working)))
    store_read_out_as_half(model)
    for node in linear & kept:
        kept.add(store_weight_as_half(model, node))
    states = {token_lookup(model), *linear, *(node for node in model.graph if node.op_type in _STATES)}
    kept |= _ancestors(model.graph.outputs, stop=states)
    kept |= _ancestors(value for node in model.graph if node.op_type in ("Cos", "Sin") for value in node.outputs)
    # The first import must switch off telemetry.
    load_onnxruntime()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    names = [str(node.name) for node in model.graph if node in kept]
    converted: ir.Model = ir.from_proto(
        convert_float_to_float16(ir.to_proto(model), keep_io_types=True, node_block_list=names)
    )
    return converted


def _large(model: ir.Model, largest: Mapping[str, float]) -> Iterator[ir.Node]:
    """Yield the nodes with an input or output near the end of float16's range."""

    def peak(value: ir.Value) -> float:
        if value.const_value is not None and value.dtype == ir.DataType.FLOAT:
            return float(np.abs(constant(value)).max(initial=0.0))
        return largest.get(str(value.name), 0.0)

    for node in model.graph:
        if any(_LARGE < peak(value) < _MASKING for value in (*node.inputs, *node.outputs) if value is not None):
            yield node


def _ancestors(values: Iterable[ir.Value], stop: Collection[ir.Node] = ()) -> set[ir.Node]:
    """Return the ancestors of values, up to but without the nodes of ``stop``."""
    found: set[ir.Node] = set()
    pending = [value.producer() for value in values]
    while pending:
        node = pending.pop()
        if node is not None and node not in found and node not in stop:
            found.add(node)
            pending.extend(value.producer() for value in node.inputs if value is not None)
    return found
