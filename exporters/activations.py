"""What reaches the linear layers of a graph on sample inputs: the raw material of smoothing and of mixed precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from flipkd_sdk.runtimes.engine import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.exporters.calibration_data import Batch


def linear_nodes(model: ir.Model) -> list[ir.Node]:
    """The matrix products with a constant right side of two dimensions: the linear layers."""
    return [node for node in model.graph if node.op_type == "MatMul" and _is_matrix(node.inputs[1])]


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


def most_sensitive(model: ir.Model, batches: Sequence[Batch], working: Path) -> list[str]:
    """Names of the linear layers, the one that suffers most from an 8-bit input first.

    A layer suffers by |(x − Q(x))·W| / |x·W| (Frobenius norms), where Q rounds to 255 steps over the input's whole
    range, as static quantization with one scale does.
    """
    error: dict[str, float] = {}
    signal: dict[str, float] = {}
    nodes = [
        (str(node.name), str(node.inputs[0].name), _matrix(node)) for node in linear_nodes(model) if node.inputs[0]
    ]
    samples = list(linear_inputs(model, batches, working))
    ranges = {
        name: (min(float(s[name].min()) for s in samples), max(float(s[name].max()) for s in samples))
        for name in samples[0]
    }
    for sample in samples[:: max(1, len(samples) // 8)]:
        for layer, name, weight in nodes:
            activation = sample[name]
            low, high = ranges[name]
            step = max(high - low, 1e-12) / 255
            rounding = activation - np.rint(activation / step) * step
            error[layer] = error.get(layer, 0.0) + float(np.square(rounding @ weight).sum())
            signal[layer] = signal.get(layer, 0.0) + float(np.square(activation @ weight).sum())
    return sorted(error, key=lambda layer: error[layer] / max(signal[layer], 1e-12), reverse=True)


def linear_inputs(model: ir.Model, batches: Sequence[Batch], working: Path) -> Iterator[dict[str, NDArray[np.float32]]]:
    """For each batch the inputs of all linear layers by value name, float32 (tokens, channels)."""
    names = sorted({str(node.inputs[0].name) for node in linear_nodes(model) if node.inputs[0] is not None})
    probed = model.clone()
    values = {value.name: value for node in probed.graph for value in node.outputs}
    probed.graph.outputs.extend(values[name] for name in names)
    file = working / "probed.onnx"
    ir.save(probed, file)
    session = load_onnxruntime().InferenceSession(str(file), providers=["CPUExecutionProvider"])
    file.unlink()
    for batch in batches:
        outputs = session.run(names, batch)
        yield {name: output.reshape(-1, output.shape[-1]) for name, output in zip(names, outputs, strict=True)}


def _is_matrix(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 2


def _matrix(node: ir.Node) -> NDArray[np.float32]:
    weight = node.inputs[1]
    if weight is None or weight.const_value is None:
        raise TypeError(f"{node.name} is not a linear layer")
    return weight.const_value.numpy()
