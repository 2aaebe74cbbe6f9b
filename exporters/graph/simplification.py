"""Rewrites of the translated graph that change no number and that neither torch nor onnxruntime makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ir.passes.common import RemoveUnusedNodesPass

if TYPE_CHECKING:
    import onnx_ir as ir

_REPEATING = ("Reshape", "Expand", "Unsqueeze")
"""How a graph repeats the key and value heads of grouped-query attention, from the last step to the first."""


def share_heads(model: ir.Model) -> int:
    """Give Attention the key and value heads as they are, in place; it repeats them itself, without a copy.

    Returns:
        How many inputs of Attention nodes were shortened.
    """
    count = 0
    for node in model.graph:
        if node.op_type == "Attention":
            for place in (1, 2):
                repeated = node.inputs[place]
                heads = _before_repetition(repeated)
                if heads is not None and repeated is not None and _divides(heads, repeated):
                    node.replace_input_with(place, heads)
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
    """Whether one is (batch, h, seq, d) and the other (batch, n·h, seq, d)."""
    if heads.shape is None or repeated.shape is None or len(heads.shape) != 4 or len(repeated.shape) != 4:
        return False
    few, many = heads.shape[1], repeated.shape[1]
    return isinstance(few, int) and isinstance(many, int) and many % few == 0 and heads.shape[3] == repeated.shape[3]
