"""SmoothQuant: move the activations' outliers into the weights, where per-channel scales can hold them.

For a linear layer y = x·W each input channel j is divided by s_j and W's row j multiplied by it, which changes nothing
in exact arithmetic. The division is folded into whatever made x: a normalization's weight (q, k, v, gate, up), the
up-projection (down) or, through attention, the value projection (o). A layer whose input is made otherwise is left as
it is. Working on the graph keeps this independent of the model family.

Reference: Xiao et al., "SmoothQuant", ICML 2023 (arXiv 2211.10438).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from flipkd_sdk.exporters.activations import linear_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_NORMALIZATIONS = ("RMSNormalization", "SimplifiedLayerNormalization", "LayerNormalization")
_SHAPE_ONLY = ("Transpose", "Reshape", "Unsqueeze", "Expand")


@dataclass(frozen=True, slots=True, eq=False)
class _Fold:
    """Linear layers that share an input, and the constants that make it."""

    activation: ir.Value
    consumers: tuple[ir.Node, ...]
    producers: tuple[ir.Value, ...]
    """Initializers whose last axis is the activation's channel axis; dividing them divides the activation."""
    repeats: int = 1
    """Heads of the activation that one head of the producer serves (grouped-query attention)."""
    head_dim: int = 0


def smooth(model: ir.Model, maxima: Mapping[str, NDArray[np.float32]], *, alpha: float, head_dim: int) -> int:
    """Fold SmoothQuant's factors into a float32 graph, in place.

    s_j = max|x_j|^α / max|W_j|^(1−α), with max|W_j| over all layers that share the input.

    Args:
        model: the graph.
        maxima: largest absolute value of each channel of the linear layers' inputs, by value name.
        alpha: α, the share of the difficulty that moves to the weights; 0.5 to 0.9.
        head_dim: width of an attention head.

    Returns:
        How many activations were smoothed.
    """
    count = 0
    for fold in _folds(model, head_dim):
        largest = _per_producer_channel(maxima[str(fold.activation.name)], fold)
        weights = [_per_producer_channel(np.abs(_array(node.inputs[1])).max(axis=1), fold) for node in fold.consumers]
        factor = np.maximum(largest, 1e-5) ** alpha / np.maximum(np.max(weights, axis=0), 1e-5) ** (1 - alpha)
        factor = np.maximum(factor, 1e-3).astype(np.float32)
        for producer in fold.producers:
            _replace(producer, _array(producer) / factor)
        for node in fold.consumers:
            _replace(node.inputs[1], _array(node.inputs[1]) * _spread(factor, fold)[:, None])
        count += 1
    return count


def _folds(model: ir.Model, head_dim: int) -> Iterator[_Fold]:
    linear = set(linear_nodes(model))
    seen: set[str] = set()
    for node in linear_nodes(model):
        activation = node.inputs[0]
        if activation is None or activation.name is None or activation.name in seen:
            continue
        seen.add(activation.name)
        consumers = tuple(activation.consumers())
        maker = activation.producer()
        if maker is None or any(consumer not in linear for consumer in consumers):
            continue
        if maker.op_type in _NORMALIZATIONS:
            constants = [value for value in maker.inputs[1:] if value is not None]
            if all(_constant(value) is not None and len(value.uses()) == 1 for value in constants):
                yield _Fold(activation, consumers, tuple(constants))
        elif maker.op_type == "Mul":
            for factor in maker.inputs:
                up = _sole_linear(factor, linear)
                if up is not None:
                    yield _Fold(activation, consumers, (up,))
                    break
        else:
            yield from _through_attention(activation, consumers, linear, head_dim)


def _through_attention(
    activation: ir.Value, consumers: tuple[ir.Node, ...], linear: set[ir.Node], head_dim: int
) -> Iterator[_Fold]:
    attention = _skip_shapes(activation).producer()
    if attention is None or attention.op_type != "Attention" or attention.inputs[2] is None:
        return
    value = _sole_linear(_skip_shapes(attention.inputs[2]), linear)
    if value is None:
        return
    width, heads_width = _array(value).shape[1], _array(consumers[0].inputs[1]).shape[0]
    if heads_width % width == 0 and width % head_dim == 0:
        yield _Fold(activation, consumers, (value,), heads_width // width, head_dim)


def _skip_shapes(value: ir.Value) -> ir.Value:
    """Follow operators that only rearrange or repeat elements up to the value that they rearrange."""
    node = value.producer()
    while node is not None and node.op_type in _SHAPE_ONLY and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _sole_linear(value: ir.Value | None, linear: set[ir.Node]) -> ir.Value | None:
    """The weight of the linear layer that makes a value, if nothing else sees that value or shares that weight."""
    node = value.producer() if value is not None else None
    if value is None or node not in linear or len(value.uses()) != 1:
        return None
    weight = node.inputs[1]
    return weight if weight is not None and len(weight.uses()) == 1 else None


def _per_producer_channel(values: NDArray[np.float32], fold: _Fold) -> NDArray[np.float32]:
    """Largest value over the heads that share a producer's head; as it is where nothing is shared."""
    if fold.repeats == 1:
        return values
    return values.reshape(-1, fold.repeats, fold.head_dim).max(axis=1).reshape(-1)


def _spread(factor: NDArray[np.float32], fold: _Fold) -> NDArray[np.float32]:
    """The inverse of `_per_producer_channel`: each head gets the factors of the producer's head that it reads."""
    if fold.repeats == 1:
        return factor
    return np.repeat(factor.reshape(-1, 1, fold.head_dim), fold.repeats, axis=1).reshape(-1)


def _constant(value: ir.Value | None) -> ir.Value | None:
    if value is None or value.const_value is None or len(value.const_value.shape) not in (1, 2):
        return None
    return value


def _array(value: ir.Value | None) -> NDArray[np.float32]:
    if value is None or value.const_value is None:
        raise TypeError("not a constant of the graph")
    return value.const_value.numpy()


def _replace(value: ir.Value | None, array: NDArray[np.float32]) -> None:
    if value is None:
        raise TypeError("not a constant of the graph")
    value.const_value = ir.tensor(np.ascontiguousarray(array, dtype=np.float32), name=value.name)
