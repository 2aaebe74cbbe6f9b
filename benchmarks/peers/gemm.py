"""The machine's limit: the highest rate at which this CPU multiplies matrices, in fp32 and in int8.

int8 is unsigned activations times signed weights of 7 bits, the products that run without overflow on any x86
processor. Each shape is a graph of one node, so that the rate is that of onnxruntime's own kernel.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ROWS = 512
"""Tokens of a batch."""
SQUARE = 1536
_SECONDS = 0.12
"""Seconds of repetitions per shape, of which the fastest counts."""

Shape = tuple[int, int, int]


def shapes_of(layers: Sequence[tuple[int, int]]) -> list[Shape]:
    """Return the products (m, k, n) to measure: a batch of tokens through each layer, and a large square."""
    return [*((ROWS, inputs, outputs) for inputs, outputs in layers), (SQUARE, SQUARE, SQUARE)]


class GemmBench:
    """Matrix products that are built once and timed in every round."""

    def __init__(self, shapes: Sequence[Shape], threads: int) -> None:
        self._runs: dict[str, dict[Shape, Callable[[], object]]] = {"fp32": {}, "int8": {}}
        for shape in shapes:
            self._runs["fp32"][shape] = _fp32(shape, threads)
            self._runs["int8"][shape] = _int8(shape, threads)

    def rates(self) -> dict[str, dict[str, float]]:
        """Return 10⁹ multiply-accumulates per second by kind and by shape, written as ``m×k×n``."""
        return {
            kind: {"×".join(map(str, (m, k, n))): m * k * n / _best(run) / 1e9 for (m, k, n), run in runs.items()}
            for kind, runs in self._runs.items()
        }


def _best(run: Callable[[], object]) -> float:
    run()
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while (start := time.perf_counter()) < end:
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _fp32(shape: Shape, threads: int) -> Callable[[], object]:
    from onnx import TensorProto, helper

    m, k, n = shape
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    return _runner(node, {"b": _random((k, n))}, _random((m, k)), TensorProto.FLOAT, threads)


def _int8(shape: Shape, threads: int) -> Callable[[], object]:
    from onnx import TensorProto, helper

    m, k, n = shape
    random = np.random.default_rng(0)
    constants = {
        "b": random.integers(-64, 64, (k, n), dtype=np.int8),
        "a_scale": np.float32(0.01),
        "b_scale": np.full(n, 0.01, np.float32),
        "a_zero": np.uint8(128),
        "b_zero": np.zeros(n, np.int8),
    }
    inputs = ["a", "b", "a_scale", "b_scale", "a_zero", "b_zero"]
    node = helper.make_node("MatMulIntegerToFloat", inputs, ["c"], domain="com.microsoft")
    return _runner(node, constants, random.integers(0, 256, (m, k), dtype=np.uint8), TensorProto.UINT8, threads)


def _runner(
    node: Any,
    constants: dict[str, Any],
    a: NDArray[Any],
    kind: int,
    threads: int,
) -> Callable[[], object]:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", kind, list(a.shape))],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, ["m", "n"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a})


def _random(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
