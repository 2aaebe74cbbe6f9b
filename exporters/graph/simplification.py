"""Exact graph rewrites that neither torch nor onnxruntime performs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ir.passes.common import RemoveUnusedNodesPass

if TYPE_CHECKING:
    import onnx_ir as ir

_REPEATING = ("Reshape", "Expand", "Unsqueeze")
"""Operators that repeat the key and value heads of grouped-query attention, last one first."""


def share_heads(model: ir.Model) -> int:
    """Remove the repetition of key and value heads before Attention, which broadcasts them without a copy.

    Returns:
        The number of inputs of Attention nodes that were replaced.
    """
    count = 0
    for node in model.graph:
        if node.op_type == "Attention":
            for index in (1, 2):
                repeated = node.inputs[index]
                heads = _before_repetition(repeated)
                if heads is not None and repeated is not None and _divides(heads, repeated):
                    node.replace_input_with(index, heads)
                    count += 1
    RemoveUnusedNodesPass()(model)
    return count


def _before_repetition(value: ir.Value | None) -> ir.Value | None:
    for op_type in _REPEATING:
        maker = value.producer() if value is not None else None
        if maker is None or maker.op_type != op_type:
            return None
        value = maker.inputs[0]
    return value


def _divides(heads: ir.Value, repeated: ir.Value) -> bool:
    """Return whether the shapes are (batch, h, seq, d) and (batch, n·h, seq, d)."""
    if heads.shape is None or repeated.shape is None or len(heads.shape) != 4 or len(repeated.shape) != 4:
        return False
    few, many = heads.shape[1], repeated.shape[1]
    return isinstance(few, int) and isinstance(many, int) and many % few == 0 and heads.shape[3] == repeated.shape[3]
