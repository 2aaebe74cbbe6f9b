"""SmoothQuant: move outliers from the activations into the weights, which have per-channel scales.

For a linear layer y = x·W, each input channel j is divided by s_j and row j of W is multiplied by s_j, which is exact.
The division is folded into the producer of x: a normalization (q, k, v, gate, up), the up-projection (down) or, through
attention, the value projection (o). Layers with another producer are not changed. The rewrite works on the graph, so it
does not depend on the model family.

Reference: Xiao et al., "SmoothQuant", ICML 2023 (arXiv 2211.10438).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from flipkd_sdk.exporters.graph.nodes import constant, linear_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_NORMALIZATIONS = ("RMSNormalization", "SimplifiedLayerNormalization", "LayerNormalization")
_LEAST = 1e-5
"""Lower bound for near-zero channels, which keeps factors within the range of float32."""
_LEAST_FACTOR = 1e-3
_SHAPE_ONLY = ("Transpose", "Reshape", "Unsqueeze", "Expand")


@dataclass(frozen=True, slots=True, eq=False)
class _Producer:
    """Constants that scale a value: dividing these columns of each constant by s divides the value by s."""

    constants: tuple[ir.Value, ...]
    """Weight and bias, whose last axis is the channel axis of the value."""
    columns: slice
    """Columns of the value within a fused projection."""
    repeats: int = 1
    """Heads of the activation per head of the value (grouped-query attention)."""
    head_dim: int = 1
    """Channels of a head; used only with repeated heads."""

    @property
    def width(self) -> int:
        return int(constant(self.constants[0])[..., self.columns].shape[-1])

    def gather(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the maximum over the activation channels of each value channel."""
        return np.asarray(values.reshape(-1, self.repeats, self.head_dim).max(axis=1)).reshape(-1)

    def spread(self, factor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the factor of each activation channel from the factors of the value channels."""
        return np.repeat(factor.reshape(-1, 1, self.head_dim), self.repeats, axis=1).reshape(-1)


def smooth(model: ir.Model, maxima: Mapping[str, NDArray[np.float32]], *, alpha: float) -> int:
    """Fold SmoothQuant's factors into a float32 graph, in place.

    s_j = max|x_j|^α / max|W_j|^(1−α), with max|W_j| over all layers that share the input.

    Args:
        model: the graph.
        maxima: largest absolute value of each channel of the linear layers' inputs, by value name.
        alpha: α, the share of the difficulty that moves to the weights; 0.5 to 0.9.

    Returns:
        The number of smoothed activations.
    """
    count = 0
    for activation, consumers, producer in list(_folds(model)):
        weights = [constant(node.inputs[1]) for node in consumers]
        reach = producer.gather(np.stack([np.abs(weight).max(axis=1) for weight in weights]).max(axis=0))
        largest = producer.gather(maxima[str(activation.name)])
        raw = np.maximum(largest, _LEAST) ** alpha / np.maximum(reach, _LEAST) ** (1 - alpha)
        factor: NDArray[np.float32] = np.maximum(raw, _LEAST_FACTOR).astype(np.float32)
        for value in producer.constants:
            array = constant(value).copy()
            array[..., producer.columns] /= factor
            _replace(value, array)
        for node, weight in zip(consumers, weights, strict=True):
            _replace(node.inputs[1], weight * producer.spread(factor)[:, None])
        _restore_other_readers(model, activation, consumers, factor)
        count += 1
    return count


def _restore_other_readers(
    model: ir.Model, activation: ir.Value, consumers: tuple[ir.Node, ...], factor: NDArray[np.float32]
) -> None:
    """Multiply a smoothed activation by its factor for readers that are no linear layers, such as a residual sum."""
    others = [(node, index) for node, index in activation.uses() if node not in consumers]
    maker = activation.producer()
    if not others or maker is None:
        return
    tape = ir.tape.Tape()
    restored = tape.op("Mul", [activation, tape.initializer(ir.tensor(factor, name=f"{activation.name}_factor"))])
    for node, index in others:
        node.replace_input_with(index, restored)
    for value in tape.initializers:
        model.graph.register_initializer(value)
    model.graph.insert_after(maker, tape.nodes)


def _folds(model: ir.Model) -> Iterator[tuple[ir.Value, tuple[ir.Node, ...], _Producer]]:
    """Yield the activations that can be smoothed, with their consumers and their producer."""
    linear = set(linear_nodes(model))
    for activation in dict.fromkeys(node.inputs[0] for node in linear_nodes(model)):
        if activation is None:
            continue
        readers = tuple(activation.consumers())
        consumers = tuple(node for node in readers if node in linear)
        if not all(_is_own(node.inputs[1]) for node in consumers):
            continue
        producer = _producer(activation, constant(consumers[0].inputs[1]).shape[0], linear)
        # In post-normalization blocks, as in BERT, a residual sum reads the normalization too.
        if producer is not None and len(consumers) < len(readers) and not _is_normalization(activation.producer()):
            continue
        if producer is not None:
            yield activation, consumers, producer


def _producer(activation: ir.Value, width: int, linear: set[ir.Node]) -> _Producer | None:
    source = activation.producer()
    if source is None:
        return None
    if _is_normalization(source):
        constants = tuple(value for value in source.inputs[1:] if value is not None)
        return _Producer(constants, slice(None)) if constants and all(_is_own(value) for value in constants) else None
    if source.op_type == "Mul":
        made = (_linear_producer(factor, linear) for factor in source.inputs)
        return next((producer for producer in made if producer is not None and producer.width == width), None)
    return _through_attention(activation, width, linear)


def _is_normalization(node: ir.Node | None) -> bool:
    return node is not None and node.op_type in _NORMALIZATIONS


def _through_attention(activation: ir.Value, width: int, linear: set[ir.Node]) -> _Producer | None:
    attention = _behind_shapes(activation).producer()
    if attention is None or attention.op_type != "Attention":
        return None
    value = attention.inputs[2]
    if value is None or value.shape is None or len(value.shape) != 4 or not isinstance(value.shape[3], int):
        return None
    producer = _linear_producer(_behind_shapes(value), linear)
    if producer is None or producer.width % value.shape[3] or width % producer.width:
        return None
    return replace(producer, repeats=width // producer.width, head_dim=value.shape[3])


def _behind_shapes(value: ir.Value) -> ir.Value:
    """Return the source of a value before operators that only rearrange or repeat elements and have no other reader."""
    while (node := value.producer()) is not None and node.op_type in _SHAPE_ONLY:
        inner = node.inputs[0]
        if inner is None or len(inner.uses()) != 1:
            break
        value = inner
    return value


def _linear_producer(value: ir.Value | None, linear: set[ir.Node]) -> _Producer | None:
    """Return the linear layer that computes a value, if nothing else reads the value or the layer's constants."""
    if value is None:
        return None
    projection, columns = _before_split(value)
    product, biases = _before_bias(projection)
    node = _sole_producer(product)
    if node is None or node not in linear:
        return None
    weight = node.inputs[1]
    width = constant(weight).shape[1]
    if weight is None or not all(_is_own(each) and constant(each).shape[-1] == width for each in (weight, *biases)):
        return None
    return _Producer((weight, *biases), columns)


def _before_split(part: ir.Value) -> tuple[ir.Value, slice]:
    """Return the output of a fused projection and the columns of a value in it, or the value itself."""
    node = _sole_producer(part)
    fused = node.inputs[0] if node is not None and node.op_type == "Split" else None
    if node is None or fused is None or fused.shape is None:
        return part, slice(None)
    axis = node.attributes.get_int("axis", 0)
    sizes = [output.shape[axis] if output.shape is not None else None for output in node.outputs]
    widths = [size for size in sizes if isinstance(size, int)]
    if axis % len(fused.shape) != len(fused.shape) - 1 or len(widths) != len(sizes):
        return part, slice(None)
    index = list(node.outputs).index(part)
    start = sum(widths[:index])
    return fused, slice(start, start + widths[index])


def _before_bias(value: ir.Value) -> tuple[ir.Value, tuple[ir.Value, ...]]:
    """Return the value before a bias, and the bias; the value itself and no bias if it is no such sum."""
    node = _sole_producer(value)
    if node is not None and node.op_type == "Add":
        for product, bias in (node.inputs, reversed(node.inputs)):
            if (
                product is not None
                and bias is not None
                and bias.const_value is not None
                and len(bias.const_value.shape) == 1
            ):
                return product, (bias,)
    return value, ()


def _sole_producer(value: ir.Value | None) -> ir.Node | None:
    return value.producer() if value is not None and len(value.uses()) == 1 else None


def _is_own(value: ir.Value | None) -> bool:
    """Return whether a value is a constant with a single reader, so that it can be changed."""
    return value is not None and value.const_value is not None and len(value.uses()) == 1


def _replace(value: ir.Value | None, array: NDArray[np.float32]) -> None:
    if value is None:
        raise TypeError("not a constant of the graph")
    value.const_value = ir.tensor(np.ascontiguousarray(array, dtype=np.float32), name=value.name)
