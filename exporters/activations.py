"""What reaches the linear layers of a graph on sample inputs: the raw material of smoothing and of mixed precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def open_graph(model: ir.Model, working: Path) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """An onnxruntime session on the CPU for a graph, which passes through a file of the working directory."""
    file = working / "probed.onnx"
    ir.save(model, file)
    session = load_onnxruntime().InferenceSession(str(file), providers=["CPUExecutionProvider"])
    file.unlink()
    return session


def _is_matrix(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 2
