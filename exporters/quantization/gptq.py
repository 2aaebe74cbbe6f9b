"""GPTQ: rounding of weights that minimises the error of a layer's output.

Rounding to nearest minimises the error of each weight. GPTQ minimises |X·W − X·Ŵ|² on a sample X: the weights that are
not rounded yet compensate for the error of the ones before them.

Reference: Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", ICLR
2023 (arXiv 2210.17323).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.exporters.graph.nodes import constant, input_of, linear_nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir
    from numpy.typing import NDArray

    from flipkd_sdk.exporters.quantization.activations import InputStatistics

_LEVELS = 63
"""Largest int8 weight: 7 bits, because full-range products overflow on x86 without VNNI."""
_DAMPING = 0.01
"""Share of the mean eigenvalue added to the Gram matrix, which may be singular on a sample."""
_BLOCK = 64
"""Rows whose errors are propagated to all later rows in one matrix product."""


@dataclass(frozen=True, slots=True, eq=False)
class RoundedWeight:
    """A weight matrix as integers: W ≈ integers · scale."""

    integers: NDArray[np.int8]
    """Shape (in, out)."""
    scale: NDArray[np.float32]
    """Scale per output, shape (out,), or per block of inputs and output, shape (blocks, out)."""


def round_weights(model: ir.Model, statistics: Mapping[str, InputStatistics]) -> dict[str, RoundedWeight]:
    """Round the weights of all linear layers to 7 bits, with one scale for each output.

    Args:
        model: a float32 graph.
        statistics: of the layers' inputs, by value name.

    Returns:
        By layer name; integers within ±63.
    """
    return {
        str(node.name): round_weight(constant(node.inputs[1]), statistics[input_of(node)].gram)
        for node in linear_nodes(model)
    }


def round_weight(weight: NDArray[np.float32], gram: NDArray[np.float64]) -> RoundedWeight:
    """Round one weight matrix to 7 bits, with one scale for each output.

    Args:
        weight: W of y = x·W, shape (in, out).
        gram: Σ x·xᵀ over a sample of inputs, shape (in, in).
    """
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / _LEVELS
    return RoundedWeight(round_to_grid(weight, scale, gram, least=-_LEVELS, most=_LEVELS), scale.astype(np.float32))


def round_to_grid(
    weight: NDArray[np.float32], scale: NDArray[np.float32], gram: NDArray[np.float64], *, least: int, most: int
) -> NDArray[np.int8]:
    """Round one weight matrix to multiples of given scales.

    Args:
        weight: W of y = x·W, shape (in, out).
        scale: not zero, of a shape that broadcasts to W's.
        gram: Σ x·xᵀ over a sample of inputs, shape (in, in).
        least: smallest integer.
        most: largest integer.

    Returns:
        The integers, shape (in, out).
    """
    scale = np.broadcast_to(scale, weight.shape)
    hessian = gram + _DAMPING * max(np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram))
    # The most important rows come first, while many others can still compensate for them.
    order = np.argsort(-np.diag(hessian), kind="stable")
    # Row i of U, divided by U_ii, is the correction of the later rows per unit of error in row i.
    upper = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T
    left = weight[order].astype(np.float64)
    integers = np.empty(weight.shape, dtype=np.int8)
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        losses = np.empty((end - start, left.shape[1]))
        for row in range(start, end):
            step = scale[order[row]]
            rounded = np.clip(np.rint(left[row] / step), least, most)
            integers[order[row]] = rounded
            losses[row - start] = (left[row] - rounded * step) / upper[row, row]
            left[row + 1 : end] -= np.outer(upper[row, row + 1 : end], losses[row - start])
        left[end:] -= upper[start:end, end:].T @ losses
    return integers
