"""Static int8: one activation scale per layer input, fixed at export, so that no text's score depends on its batch.

onnxruntime's quantizer writes the QuantizeLinear/DequantizeLinear pairs, which its session fuses into integer matrix
products. Weights take 7 bits: without VNNI, products of full-range 8-bit values overflow silently on x86.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from flipkd_sdk.exporters.activations import constant
from flipkd_sdk.runtimes.engine import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flipkd_sdk.exporters.calibration_data import Batch


def quantize_linear_layers(source: Path, target: Path, batches: Sequence[Batch], *, keep: Sequence[str] = ()) -> None:
    """Quantize the linear layers of a float32 model file to static int8.

    Args:
        source: the smoothed float32 model.
        target: the model to write.
        batches: sample inputs that the activation ranges are taken from.
        keep: names of nodes that stay float32.
    """
    load_onnxruntime()
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> Batch | None:
            return next(self.batches, None)

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantizer recommends a pre-processing that this graph has had already
    try:
        quantize_static(
            str(source),
            str(target),
            Samples(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=list(keep),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "WeightSymmetric": True,
            },
        )
    finally:
        root.setLevel(level)


def quantize_embedding(model: ir.Model) -> None:
    """Store the token embedding as int8 rows with one scale each, in place.

    Gather(E, ids) becomes Cast(Gather(Q, ids)) · Gather(scale, ids): standard operators on every provider, and only the
    rows of the batch's tokens are ever expanded.
    """
    node = next(filter(_looks_up_tokens, model.graph))
    table, ids = node.inputs[0], node.inputs[1]
    rows = constant(table)
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / 127
    quantized = np.rint(rows / scale).astype(np.int8)
    tape = ir.tape.Tape()
    stored = tape.initializer(ir.tensor(quantized, name="embedding_int8"))
    scales = tape.initializer(ir.tensor(scale.astype(np.float32), name="embedding_scale"))
    integers = tape.op("Cast", [tape.op("Gather", [stored, ids])], {"to": ir.DataType.FLOAT})
    expanded = tape.op("Mul", [integers, tape.op("Gather", [scales, ids])])
    for value in tape.initializers:
        model.graph.register_initializer(value)
    model.graph.insert_before(node, tape.nodes)
    ir.convenience.replace_all_uses_with(node.outputs[0], expanded)
    model.graph.remove(node, safe=True)
    if table is not None and table.name is not None and not table.uses():
        del model.graph.initializers[table.name]


def _looks_up_tokens(node: ir.Node) -> bool:
    """Whether a node takes the rows of the token ids out of a table; GPT-2 reshapes the ids first."""
    if node.op_type != "Gather" or (ids := node.inputs[1]) is None:
        return False
    maker = ids.producer()
    source = maker.inputs[0] if maker is not None and maker.op_type == "Reshape" else ids
    return source is not None and source.name == "input_ids"
