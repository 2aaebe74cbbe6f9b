"""Activation statistics of a graph's linear layers on sample inputs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from flipkd_sdk.exporters.graph.nodes import input_of, linear_nodes
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.exporters.quantization.sample_batches import Batch


def channel_maxima(model: ir.Model, batches: Sequence[Batch], working: Path) -> dict[str, NDArray[np.float32]]:
    """Return the largest absolute value of each input channel of the linear layers, by value name.

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
    """Statistics of a linear layer's input over all tokens of a sample."""

    low: float
    """Lower end of the quantization range: the least value, at most 0."""
    high: float
    """Upper end of the quantization range: the largest value, at least 0."""
    spread: float
    """Largest absolute value of all tokens, divided by the median token's largest."""
    gram: NDArray[np.float64]
    """Σ x·xᵀ over the tokens x, shape (channels, channels)."""


def input_statistics(model: ir.Model, batches: Sequence[Batch], working: Path) -> dict[str, InputStatistics]:
    """Return the statistics of the linear layers' inputs over all batches, by value name.

    Args:
        model: a float32 graph.
        batches: sample inputs.
        working: a directory for the instrumented copy of the graph.
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
        statistics[name] = InputStatistics(min(0.0, float(low.min())), max(0.0, float(high.max())), spread, gram)
    return statistics


def linear_inputs(model: ir.Model, batches: Sequence[Batch], working: Path) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the inputs of all linear layers for each batch, by value name, float32 (tokens, channels)."""
    names = sorted({input_of(node) for node in linear_nodes(model)})
    # onnxruntime takes an empty list for all outputs.
    if not names:
        return
    probed = model.clone()
    values = {value.name: value for node in probed.graph for value in node.outputs}
    probed.graph.outputs.extend(values[name] for name in names)
    session = open_graph(probed, working)
    for batch in batches:
        outputs = session.run(names, batch)
        yield {name: output.reshape(-1, output.shape[-1]) for name, output in zip(names, outputs, strict=True)}


def largest_values(model: ir.Model, batches: Sequence[Batch], working: Path) -> dict[str, float]:
    """Return the largest absolute value of every float32 value of a graph over all batches, by value name.

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
    """Open a graph in an onnxruntime session on the CPU, through a file in the working directory."""
    file = working / "probed.onnx"
    ir.save(model, file)
    session = load_onnxruntime().InferenceSession(str(file), providers=["CPUExecutionProvider"])
    file.unlink()
    return session
