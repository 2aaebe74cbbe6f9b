"""int4: weights of four bits with a scale per block, for the smallest file.

Activations are not rounded, so no score depends on its batch. ONNX has no Gather for 4-bit tables and no matrix product
for 4-bit weights, so both are operators of onnxruntime's domain ``com.microsoft``. onnxruntime's own quantizer writes
the same nodes, but rounds to nearest and stores the scales in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from flipkd_sdk.exporters.graph.edits import half, insert_before, store_read_out_as_half
from flipkd_sdk.exporters.graph.nodes import constant, input_of, linear_nodes, token_lookup
from flipkd_sdk.exporters.quantization.gptq import RoundedWeight, round_to_grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from flipkd_sdk.exporters.quantization.activations import InputStatistics

LINEAR_BLOCK = 32
"""Inputs of a linear layer that share one scale per output."""
EMBEDDING_BLOCK = 64
"""Values of an embedding row that share one scale."""

_DOMAIN = "com.microsoft"
_LEAST, _MOST = -8, 7
_SHRINKING = np.linspace(1.0, 0.6, 17)
"""Candidate scales, relative to the one that represents a block's largest value exactly; clipping that value a little
makes all others more precise."""
_SMALLEST = np.float32(2**-24)
"""Smallest positive float16 number."""


def quantize_blockwise(model: ir.Model, statistics: Mapping[str, InputStatistics]) -> ir.Model:
    """Return a copy of a float32 graph with linear layers and token embedding in four bits, and A as float16.

    Args:
        model: the float32 graph; not changed.
        statistics: of the linear layers' inputs, by value name.
    """
    model = model.clone()
    store_read_out_as_half(model)
    for node in linear_nodes(model):
        _quantize_layer(model, node, round_blockwise(constant(node.inputs[1]), statistics[input_of(node)].gram))
    _quantize_embedding(model)
    RemoveUnusedNodesPass()(model)
    model.opset_imports[_DOMAIN] = 1
    return model


def round_blockwise(weight: NDArray[np.float32], gram: NDArray[np.float64]) -> RoundedWeight:
    """Round one weight matrix to 4 bits, with a scale for each block of inputs and each output.

    Args:
        weight: W of y = x·W, shape (in, out).
        gram: Σ x·xᵀ over a sample of inputs, shape (in, in).
    """
    scale = block_scale(weight, np.diag(gram), block=LINEAR_BLOCK)
    spread = np.repeat(scale, LINEAR_BLOCK, axis=0)[: len(weight)]
    return RoundedWeight(round_to_grid(weight, spread, gram, least=_LEAST, most=_MOST), scale)


def block_scale(weight: NDArray[np.float32], importance: NDArray[np.floating], *, block: int) -> NDArray[np.float32]:
    """Return the scale of each block that minimises Σ importance · (w − ŵ)², with ŵ rounded to nearest.

    The integers −8 … 7 are asymmetric; the sign of a scale puts the longer side where the block's largest value is.

    Args:
        weight: shape (in, out).
        importance: weight of each row, not negative, shape (in,).
        block: rows that share a scale; the last block may be shorter.

    Returns:
        Shape (blocks, out), not zero and exact in float16.
    """
    rows = _padded(weight, block).reshape(-1, block, weight.shape[1])
    # Rows that are zero on the sample keep a small weight.
    worth = (importance + 1e-6 * max(float(importance.mean()), 1e-12)).astype(np.float32)
    worth = _padded(worth[:, None], block).reshape(-1, block, 1)
    peak = np.take_along_axis(rows, np.abs(rows).argmax(axis=1, keepdims=True), axis=1)
    best = np.full(peak.shape, np.inf)
    chosen = np.zeros_like(peak)
    for factor in _SHRINKING:
        scale = _as_half(peak * np.float32(factor / _LEAST))
        loss = (worth * np.square(rows - np.clip(np.rint(rows / scale), _LEAST, _MOST) * scale)).sum(1, keepdims=True)
        chosen = np.where(loss < best, scale, chosen)
        best = np.minimum(loss, best)
    return chosen[:, 0]


def _quantize_layer(model: ir.Model, node: ir.Node, rounded: RoundedWeight) -> None:
    rows, columns = rounded.integers.shape
    tape = ir.tape.Tape()
    product = tape.op(
        "MatMulNBits",
        [
            node.inputs[0],
            tape.initializer(ir.tensor(_packed(rounded.integers), name=f"{node.name}_int4")),
            half(tape, rounded.scale.T, f"{node.name}_scale"),
        ],
        {"K": rows, "N": columns, "bits": 4, "block_size": LINEAR_BLOCK},
        domain=_DOMAIN,
    )
    insert_before(model, node, tape)
    ir.convenience.replace_all_uses_with(node.outputs[0], product)


def _quantize_embedding(model: ir.Model) -> None:
    node = token_lookup(model)
    table = constant(node.inputs[0])
    scale = block_scale(table.T, np.ones(table.shape[1], np.float32), block=EMBEDDING_BLOCK).T
    spread = np.repeat(scale, EMBEDDING_BLOCK, axis=1)[:, : table.shape[1]]
    integers = np.clip(np.rint(table / spread), _LEAST, _MOST).astype(np.int8)
    tape = ir.tape.Tape()
    stored = tape.initializer(ir.tensor(integers, dtype=ir.DataType.INT4, name="embedding_int4"))
    expanded = tape.op(
        "GatherBlockQuantized",
        [stored, node.inputs[1], half(tape, scale, "embedding_scale")],
        {"gather_axis": 0, "quantize_axis": 1, "block_size": EMBEDDING_BLOCK},
        domain=_DOMAIN,
    )
    insert_before(model, node, tape)
    ir.convenience.replace_all_uses_with(node.outputs[0], expanded)


def _packed(integers: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack a weight (in, out) for MatMulNBits: (out, blocks, block / 2), the first of two values in the low bits."""
    shifted = _padded(integers, LINEAR_BLOCK).astype(np.int16) - _LEAST
    nibbles = shifted.astype(np.uint8).T.reshape(integers.shape[1], -1, LINEAR_BLOCK // 2, 2)
    return nibbles[..., 0] | nibbles[..., 1] << np.uint8(4)


def _padded(array: NDArray[Any], block: int) -> NDArray[Any]:
    """Append zero rows up to a whole number of blocks."""
    return np.pad(array, ((0, -len(array) % block), (0, 0)))


def _as_half(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    rounded = np.clip(scale, -65504, 65504).astype(np.float16).astype(np.float32)
    return np.where(rounded == 0, _SMALLEST, rounded)
