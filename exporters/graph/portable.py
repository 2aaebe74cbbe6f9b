"""Rewriting of a graph in operators of opset 17, for older and other runtimes.

RMSNormalization, RotaryEmbedding, Attention and Gelu become the operators that define them. Query heads that share a
key head are stacked into longer queries, so no key or value is copied. The arithmetic stays the same up to the order of
sums.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass, ShapeInferencePass

from flipkd_sdk.errors import VerificationError
from flipkd_sdk.exporters.graph.edits import insert_before
from flipkd_sdk.exporters.graph.nodes import constant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

OPSET = 17
_IR_VERSION = 8
_LATER = {"Reshape": "allowzero", "Cast": "saturate", "Split": "num_outputs"}
"""Attributes that only repeat a default, or that opset 17 does not know."""
_AXES_AS_ATTRIBUTE = ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin")


def make_portable(model: ir.Model) -> ir.Model:
    """Return a copy of a graph that uses operators of opset 17 only.

    Args:
        model: a graph of standard operators in float32, quantized or not; not changed.

    Raises:
        VerificationError: an operator cannot be decomposed; the message names it.
    """
    model = model.clone()
    for node in list(model.graph):
        if rewrite := _REWRITES.get(node.op_type):
            builder, before = _Builder(node), node.outputs[0]
            result = rewrite(builder, node)
            result.shape, result.type = before.shape, before.type
            ir.convenience.replace_all_uses_with(before, result)
            insert_before(model, node, builder.tape)
        elif node.op_type in _AXES_AS_ATTRIBUTE:
            _move_axes(node)
        if _LATER.get(node.op_type) in node.attributes:
            node.attributes.pop(_LATER[node.op_type])
    model.graph.opset_imports[""] = OPSET
    model.ir_version = _IR_VERSION
    RemoveUnusedNodesPass()(model)
    # Layers share positions, whose angles and reshaped copies would be computed in each of them.
    CommonSubexpressionEliminationPass()(model)
    _check(model)
    return model


class _Builder:
    """A tape whose constants have names of their own."""

    def __init__(self, node: ir.Node) -> None:
        self.tape = ir.tape.Tape()
        self._name = f"{node.name or node.outputs[0].name}_portable"

    def op(self, kind: str, *inputs: ir.Value | None, **attributes: int | list[int]) -> ir.Value:
        """Add a node with one output."""
        return self.tape.op(kind, list(inputs), attributes)

    def floats(self, values: ArrayLike) -> ir.Value:
        """Return a constant in float32."""
        return self._constant(np.asarray(values, np.float32))

    def integers(self, *values: int) -> ir.Value:
        """Return a one-dimensional constant in int64."""
        return self._constant(np.array(values, np.int64))

    def _constant(self, array: np.ndarray[Any, Any]) -> ir.Value:
        return self.tape.initializer(ir.tensor(array, name=f"{self._name}_{len(self.tape.initializers)}"))


def _rms_normalization(build: _Builder, node: ir.Node) -> ir.Value:
    x, scale = node.inputs
    if node.attributes.get_int("axis", -1) != -1:
        raise _without_decomposition(node, "over several axes")
    squares = build.op("Pow", x, build.floats(2.0))
    mean = build.op("ReduceMean", squares, axes=[-1], keepdims=1)
    epsilon = build.floats(node.attributes.get_float("epsilon", 1e-5))
    return build.op("Mul", build.op("Div", x, build.op("Sqrt", build.op("Add", mean, epsilon))), scale)


def _rotary_embedding(build: _Builder, node: ir.Node) -> ir.Value:
    x, cos, sin, *positions = node.inputs
    size = _shape(x, node)[3]
    rotated = node.attributes.get_int("rotary_embedding_dim", 0) or size
    if node.attributes.get_int("interleaved", 0) or any(value is not None for value in positions):
        raise _without_decomposition(node, "with interleaved halves or positions of its own")
    parts = [rotated // 2, rotated // 2] + ([size - rotated] if rotated < size else [])
    first, second, *rest = build.tape.op_multi_out(
        "Split", [x, build.integers(*parts)], {"axis": -1}, num_outputs=len(parts)
    )
    axis = build.integers(1)
    cos, sin = build.op("Unsqueeze", cos, axis), build.op("Unsqueeze", sin, axis)
    real = build.op("Sub", build.op("Mul", first, cos), build.op("Mul", second, sin))
    imaginary = build.op("Add", build.op("Mul", first, sin), build.op("Mul", second, cos))
    return build.op("Concat", real, imaginary, *rest, axis=-1)


def _attention(build: _Builder, node: ir.Node) -> ir.Value:
    query, key, value, mask, *others = (*node.inputs, None)
    attributes = node.attributes
    if any(given is not None for given in others) or len(node.outputs) > 1:
        raise _without_decomposition(node, "with a cache")
    if any(name in attributes and attributes[name].value for name in ("is_causal", "softcap")):
        raise _without_decomposition(node, "with a causal mask of its own or a softcap")
    heads, size = _shape(query, node)[1], _shape(query, node)[3]
    shared = _shape(key, node)[1]
    scale = attributes.get_float("scale") if "scale" in attributes else 1 / math.sqrt(size)
    query = build.op("Mul", query, build.floats(scale))
    if shared != heads:
        query = build.op("Reshape", query, build.integers(0, shared, -1, size))
    scores = build.op("MatMul", query, build.op("Transpose", key, perm=[0, 1, 3, 2]))
    if shared != heads:
        scores = build.op("Reshape", scores, build.integers(0, heads, -1, 0))
    if mask is not None and mask.dtype == ir.DataType.BOOL:
        scores = build.op("Where", mask, scores, build.floats(np.finfo(np.float32).min))
    elif mask is not None:
        scores = build.op("Add", scores, mask)
    shares = build.op("Softmax", scores, axis=-1)
    if shared == heads:
        return build.op("MatMul", shares, value)
    context = build.op("MatMul", build.op("Reshape", shares, build.integers(0, shared, -1, 0)), value)
    return build.op("Reshape", context, build.integers(0, heads, -1, _shape(value, node)[3]))


def _gelu(build: _Builder, node: ir.Node) -> ir.Value:
    (x,) = node.inputs
    if node.attributes.get_string("approximate", "none") == "tanh":
        cubed = build.op("Mul", build.op("Pow", x, build.floats(3.0)), build.floats(0.044715))
        inner = build.op("Mul", build.op("Add", x, cubed), build.floats(math.sqrt(2 / math.pi)))
        curve = build.op("Tanh", inner)
    else:
        curve = build.op("Erf", build.op("Div", x, build.floats(math.sqrt(2))))
    return build.op("Mul", build.op("Mul", x, build.op("Add", curve, build.floats(1.0))), build.floats(0.5))


_REWRITES: dict[str, Callable[[_Builder, ir.Node], ir.Value]] = {
    "RMSNormalization": _rms_normalization,
    "RotaryEmbedding": _rotary_embedding,
    "Attention": _attention,
    "Gelu": _gelu,
}


def _move_axes(node: ir.Node) -> None:
    """Turn the second input of a reduction into an attribute, as before opset 18."""
    node.attributes.pop("noop_with_empty_axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = [int(axis) for axis in constant(node.inputs[1])]
        node.replace_input_with(1, None)
        node.resize_inputs(1)
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)


def _shape(value: ir.Value | None, node: ir.Node) -> list[int]:
    """Return the sizes of a value of four dimensions; 0 where they are dynamic."""
    if value is None or value.shape is None or len(value.shape) != 4:
        raise _without_decomposition(node, "of inputs without four dimensions")
    return [size if isinstance(size, int) else 0 for size in value.shape]


def _check(model: ir.Model) -> None:
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain or not onnx.defs.has(node.op_type, OPSET):
            raise _without_decomposition(node, "")
    ShapeInferencePass()(model)
    try:
        onnx.checker.check_model(ir.to_proto(model))
    except onnx.checker.ValidationError as error:
        raise VerificationError(
            f"--portable: the graph is not of opset {OPSET}: {str(error).splitlines()[0]}"
        ) from None


def _without_decomposition(node: ir.Node, kind: str) -> VerificationError:
    name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return VerificationError(
        f"--portable: {name}{kind and f' {kind}'} has no decomposition into operators of opset {OPSET}; "
        "export without --portable"
    )
