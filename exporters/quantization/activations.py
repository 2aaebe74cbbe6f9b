"""What reaches the linear layers of a graph on sample inputs: the raw material of smoothing and of mixed precision."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.exporters.quantization.sample_batches import Batch


def linear_nodes(model: ir.Model) -> list[ir.Node]:
    """The matrix products with a constant right side of two dimensions: the linear layers."""
    return [node for node in model.graph if node.op_type == "MatMul" and _is_matrix(node.inputs[1])]


def input_of(layer: ir.Node) -> str:
    """Name of the value that a linear layer reads.

    Raises:
        TypeError: it has none.
    """
    value = layer.inputs[0]
    if value is None or value.name is None:
        raise TypeError(f"{layer.name} has no named input")
    return value.name


def constant(value: ir.Value | None) -> NDArray[np.float32]:
    """The array behind a constant of a graph.

    Raises:
        TypeError: it is not constant.
    """
    if value is None or value.const_value is None:
        raise TypeError(f"{value} is not a constant of the graph")
    array: NDArray[np.float32] = value.const_value.numpy()
    return array


def channel_maxima(model: ir.Model, batches: Sequence[Batch], working: Path) -> dict[str, NDArray[np.float32]]:
    """Largest absolute value of each channel of the linear layers' inputs over all batches, by value name.

    Args:
        model: a float32 graph.
        batches: sample inputs.
        working: a directory for the instrumented copy of the graph.
    """
    maxima: dict[str, NDArray[np.float32]] = {}
    for inputs in linear_inputs(model, batches, working):
        for name, activation in inputs.items():
            largest = np.abs(activation).max(axis=0)
            maxima[name] = np.maximum(maxima.get(name, largest), largest)
    return maxima


@dataclass(frozen=True, slots=True, eq=False)
class InputStatistics:
    """What the input of linear layers looks like over all tokens of a sample."""

    low: float
    """Lower end of the range that is to be rounded: the least value, or 0 if that is less."""
    high: float
    """Its upper end: the largest value, or 0 if that is larger."""
    spread: float
    """Largest absolute value of all tokens, divided by the median token's largest."""
    gram: NDArray[np.float64]
    """Σ x·xᵀ over the tokens x, shape (channels, channels)."""


def input_statistics(
    model: ir.Model, batches: Sequence[Batch], working: Path, *, percentile: float = 100.0
) -> dict[str, InputStatistics]:
    """Statistics of the linear layers' inputs over all batches, by value name.

    Args:
        model: a float32 graph.
        batches: sample inputs.
        working: a directory for the instrumented copy of the graph.
        percentile: of the tokens whose values are to lie above ``low``, and of those below ``high``; with less than 100
            the range leaves out what the most extreme tokens have.
    """
    extremes: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    grams: dict[str, NDArray[np.float64]] = {}
    for inputs in linear_inputs(model, batches, working):
        for name, activation in inputs.items():
            extremes[name].append(np.stack([activation.min(axis=1), activation.max(axis=1)]))
            grams[name] = grams.get(name, 0.0) + (activation.T @ activation).astype(np.float64)
    statistics = {}
    for name, gram in grams.items():
        low, high = np.concatenate(extremes[name], axis=1)
        largest = np.maximum(np.abs(low), np.abs(high))
        spread = float(largest.max() / max(np.median(largest), 1e-12))
        least, most = np.percentile(low, 100 - percentile), np.percentile(high, percentile)
        statistics[name] = InputStatistics(min(0.0, float(least)), max(0.0, float(most)), spread, gram)
    return statistics


def linear_inputs(model: ir.Model, batches: Sequence[Batch], working: Path) -> Iterator[dict[str, NDArray[np.float32]]]:
    """For each batch the inputs of all linear layers by value name, float32 (tokens, channels)."""
    names = sorted({input_of(node) for node in linear_nodes(model)})
    if not names:  # the encoder site is in front of all of them; and onnxruntime takes no name for every name
        return
    probed = model.clone()
    values = {value.name: value for node in probed.graph for value in node.outputs}
    probed.graph.outputs.extend(values[name] for name in names)
    session = open_graph(probed, working)
    for batch in batches:
        outputs = session.run(names, batch)
        yield {name: output.reshape(-1, output.shape[-1]) for name, output in zip(names, outputs, strict=True)}


def largest_values(model: ir.Model, batches: Sequence[Batch], working: Path) -> dict[str, float]:
    """Largest absolute value of every float32 value that a graph computes, over all batches, by value name.

    Args:
        model: a float32 graph.
        batches: sample inputs.
        working: a directory for the instrumented copy of the graph.
    """
    probed = model.clone()
    computed = [value for node in probed.graph for value in node.outputs if value.dtype == ir.DataType.FLOAT]
    tape = ir.tape.Tape()
    peaks = [tape.op("ReduceMax", [tape.op("Abs", [value])], {"keepdims": 0}) for value in computed]
    probed.graph.extend(tape.nodes)
    probed.graph.outputs.extend(peaks)
    session = open_graph(probed, working)
    largest = np.max([session.run([peak.name for peak in peaks], batch) for batch in batches], axis=0)
    return {str(value.name): float(peak) for value, peak in zip(computed, largest, strict=True)}


def open_graph(model: ir.Model, working: Path) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """An onnxruntime session on the CPU for a graph, which passes through a file of the working directory."""
    file = working / "probed.onnx"
    ir.save(model, file)
    session = load_onnxruntime().InferenceSession(str(file), providers=["CPUExecutionProvider"])
    file.unlink()
    return session


def _is_matrix(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 2
