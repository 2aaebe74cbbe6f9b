"""Multiply-accumulates of an ONNX encoder by precision."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import onnx


@dataclass(frozen=True)
class LinearLayers:
    """Matrix products with weights in a graph; those of attention scores are left out.

    A product of a mixed graph counts where it is computed: int8 where both sides were quantized, or where weights of
    four bits are multiplied in int8 (``accuracy_level`` 4), else fp32, in which weights stored as halves are too.
    """

    per_token: dict[str, int]
    """Multiply-accumulates per token by precision, ``fp32`` or ``int8``."""
    per_text: dict[str, int]
    """Multiply-accumulates per text of layers after pooling."""
    shapes: tuple[tuple[int, int], ...]
    """Distinct weights per token as (inputs, outputs)."""

    def total(self, tokens: int, texts: int) -> dict[str, int]:
        """Return the multiply-accumulates of a number of tokens and texts by precision."""
        return {kind: self.per_token[kind] * tokens + self.per_text[kind] * texts for kind in self.per_token}


def linear_layers(file: Path) -> LinearLayers:
    """Count the linear layers of an ONNX file. A ``Gemm``, which takes a matrix, works on pooled texts."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    weights = {value.name: tuple(value.dims) for value in graph.initializer}
    restored, quantized = {}, set()
    for node in graph.node:
        if node.op_type in ("Cast", "DequantizeLinear"):
            restored[node.output[0]] = weights.get(node.input[0], ())
        if node.op_type == "DequantizeLinear":
            quantized.add(node.output[0])
    weights |= restored
    per_token, per_text = {"fp32": 0, "int8": 0}, {"fp32": 0, "int8": 0}
    shapes = set()
    for node in graph.node:
        shape, kind = _weight(node, weights, quantized)
        if len(shape) != 2:
            continue
        if node.op_type == "Gemm":
            per_text[kind] += prod(shape)
        else:
            per_token[kind] += prod(shape)
            shapes.add((shape[0], shape[1]))
    return LinearLayers(per_token, per_text, tuple(sorted(shapes)))


def _weight(
    node: onnx.NodeProto, weights: dict[str, tuple[int, ...]], quantized: set[str]
) -> tuple[tuple[int, ...], str]:
    """Return the shape of a node's weight, or (), and the precision of the node."""
    match node.op_type:
        case "MatMulNBits":
            options = {attribute.name: attribute.i for attribute in node.attribute}
            return (options["K"], options["N"]), "int8" if options.get("accuracy_level") == 4 else "fp32"
        case "MatMulInteger" | "MatMulIntegerToFloat" | "DynamicQuantizeMatMul":
            return weights.get(node.input[1], ()), "int8"
        case "QLinearMatMul":
            return weights.get(node.input[3], ()), "int8"
        case "MatMul" | "Gemm" | "FusedMatMul":
            return weights.get(node.input[1], ()), "int8" if quantized.issuperset(node.input[:2]) else "fp32"
    return (), "fp32"
