from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import tiny_model

from flipkd_sdk.errors import ConfigError, ExecutionError, MatcherDirectoryError
from flipkd_sdk.runtimes.onnx import session
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime
from flipkd_sdk.runtimes.onnx.session import open_session, providers, session_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DIMENSION = 16
IDS = np.array([[3, 4, 5, 0]], dtype=np.int64)
MASK = np.array([[1, 1, 1, 0]], dtype=np.int64)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model_fp32.onnx"
    path.write_bytes(tiny_model(vocabulary=50, dimension=DIMENSION))
    return path


def changed(model: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    proto = onnx.load(model)
    change(proto)
    onnx.save(proto, model)
    return model


class StandIn:
    """onnxruntime with CUDA built in, whose sessions run where the test says."""

    def __init__(self, *, starts_cuda: bool) -> None:
        self._real = load_onnxruntime()
        self.starts_cuda = starts_cuda
        self.requested: list[Any] = []
        self.preloaded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        self.preloaded += 1
        sys.stdout.write("Failed to load libcublas\n")

    def InferenceSession(self, path: str, options: Any, *, providers: list[Any], enable_fallback: bool) -> Any:  # noqa: N802
        self.requested.append(providers)
        assert enable_fallback is False
        inner = self._real.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        on_cuda = self.starts_cuda and providers != ["CPUExecutionProvider"]
        names = ["CUDAExecutionProvider", "CPUExecutionProvider"] if on_cuda else ["CPUExecutionProvider"]
        return SimpleNamespace(
            run=inner.run, get_inputs=inner.get_inputs, get_outputs=inner.get_outputs, get_providers=lambda: names
        )


def test_a_session_gives_unit_vectors(model: Path) -> None:
    opened = open_session(model, device="cpu", threads=1, dimension=DIMENSION)
    vectors = opened.run(IDS, MASK)
    assert (vectors.shape, str(vectors.dtype), opened.device) == ((1, DIMENSION), "float32", "cpu")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_cuda_on_a_wheel_without_it_is_an_error(model: Path) -> None:
    if "CUDAExecutionProvider" in load_onnxruntime().get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ExecutionError, match=r"built without CUDA.*flipkd-sdk\[cuda\]"):
        open_session(model, device="cuda", threads=1, dimension=DIMENSION)


def test_cuda_that_does_not_start_is_an_error(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in = StandIn(starts_cuda=False)
    monkeypatch.setattr(session, "load_onnxruntime", lambda: stand_in)
    with pytest.raises(ExecutionError, match="would run on the CPU"):
        open_session(model, device="cuda:1", threads=1, dimension=DIMENSION)
    assert stand_in.requested[0][0][1]["device_id"] == "1"
    # What onnxruntime prints about missing libraries must not end up in a piped table.
    assert capsys.readouterr().out == ""


def test_cuda_that_runs_is_used(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(starts_cuda=True)
    monkeypatch.setattr(session, "load_onnxruntime", lambda: stand_in)
    assert open_session(model, device="cuda", threads=1, dimension=DIMENSION).device == "cuda"
    assert stand_in.preloaded == 1


def test_the_cpu_alone_is_requested_for_the_cpu(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(starts_cuda=True)
    monkeypatch.setattr(session, "load_onnxruntime", lambda: stand_in)
    assert open_session(model, device="cpu", threads=1, dimension=DIMENSION).device == "cpu"
    assert stand_in.requested == [["CPUExecutionProvider"]]
    assert stand_in.preloaded == 0


def test_cuda_computes_in_full_float32() -> None:
    cuda, fallback = providers("cuda:3")
    assert isinstance(cuda, tuple)
    assert (cuda[0], fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert (cuda[1]["device_id"], cuda[1]["use_tf32"]) == ("3", "0")


def test_device_memory_can_be_limited() -> None:
    (_, limited), _ = providers("cuda", 1 << 30)
    (_, unlimited), _ = providers("cuda")
    assert limited["gpu_mem_limit"] == "1073741824"  # type: ignore[call-overload,index]
    assert "gpu_mem_limit" not in unlimited


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "", "auto"])
def test_an_unknown_device_is_an_error(device: str) -> None:
    with pytest.raises(ConfigError, match="use 'auto', 'cpu', 'cuda'"):
        providers(device)


def test_the_session_is_a_quiet_guest() -> None:
    options = session_options(load_onnxruntime(), 3)
    assert options.intra_op_num_threads == 3
    assert options.enable_cpu_mem_arena is False
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_file_that_is_no_model_is_an_error_that_names_it(model: Path) -> None:
    model.write_bytes(b"no model at all")
    with pytest.raises(MatcherDirectoryError, match=r"model_fp32\.onnx: not an ONNX file") as caught:
        open_session(model, device="cpu", threads=1, dimension=DIMENSION)
    assert "\n" not in str(caught.value)


def rename_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].name = "ids"
    for node in proto.graph.node:
        node.input[:] = ["ids" if name == "input_ids" else name for name in node.input]


def rename_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = proto.graph.node[-1].output[0] = "vectors"


def more_inputs(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "sequence"]))


def fixed_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def cast_ids(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


SIGNATURES = [
    (rename_input, "its inputs are ids, attention_mask instead of"),
    (more_inputs, "its inputs are input_ids, attention_mask, position_ids instead of"),
    (rename_output, "it has no output sentence_embedding"),
    (fixed_batch, "instead of int64"),
    (cast_ids, r"input_ids is tensor\(int32\)"),
]


@pytest.mark.parametrize(("change", "message"), SIGNATURES)
def test_a_graph_with_another_signature_is_an_error(
    change: Callable[[onnx.ModelProto], object], message: str, model: Path
) -> None:
    with pytest.raises(MatcherDirectoryError, match=message):
        open_session(changed(model, change), device="cpu", threads=1, dimension=DIMENSION)


def test_vectors_of_another_length_are_an_error(model: Path) -> None:
    with pytest.raises(MatcherDirectoryError, match=r"instead of float32 \[batch, 17\]"):
        open_session(model, device="cpu", threads=1, dimension=DIMENSION + 1)


def test_weights_in_another_file_are_refused(model: Path) -> None:
    onnx.save(onnx.load(model), model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(MatcherDirectoryError, match="keeps weights in another file"):
        open_session(model, device="cpu", threads=1, dimension=DIMENSION)


def test_operators_from_elsewhere_are_not_loaded(model: Path) -> None:
    def custom(proto: onnx.ModelProto) -> None:
        proto.graph.node[-1].domain = "com.example"
        proto.opset_import.append(helper.make_opsetid("com.example", 1))

    with pytest.raises(ExecutionError, match="cannot open it"):
        open_session(changed(model, custom), device="cpu", threads=1, dimension=DIMENSION)


def test_a_vector_that_is_not_finite_is_an_error(model: Path) -> None:
    opened = open_session(model, device="cpu", threads=1, dimension=DIMENSION)
    with pytest.raises(ExecutionError, match="not finite"):
        opened.run(IDS, np.zeros_like(MASK))


def test_a_vector_for_each_text_is_demanded(model: Path) -> None:
    def add_up(proto: onnx.ModelProto) -> None:
        last = proto.graph.node[-1]
        last.output[0] = "vectors"
        proto.graph.node.append(
            helper.make_node("ReduceMax", ["vectors", "axis_0"], ["sentence_embedding"], keepdims=1)
        )
        proto.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis_0"))

    opened = open_session(changed(model, add_up), device="cpu", threads=1, dimension=DIMENSION)
    # numpy would hand the one vector to all of them.
    with pytest.raises(ExecutionError, match="returned 1 vectors for 2 texts"):
        opened.run(np.concatenate([IDS, IDS]), np.concatenate([MASK, MASK]))


def test_a_failing_run_is_an_error_of_this_package(model: Path) -> None:
    opened = open_session(model, device="cpu", threads=1, dimension=DIMENSION)
    with pytest.raises(ExecutionError, match="batch of 1 texts of 4 tokens on cpu"):
        opened.run(IDS + 1000, MASK)
