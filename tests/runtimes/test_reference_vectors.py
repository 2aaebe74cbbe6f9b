from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny import add_self_test, named, replace_model, write_manifest, write_tiny_matcher

from flipkd_sdk.artifact.limits import REFERENCE_DISTANCE
from flipkd_sdk.artifact.manifest import read_manifest
from flipkd_sdk.errors import FlipKDError, MatcherDirectoryError, SelfTestError
from flipkd_sdk.runtimes import reference_vectors
from flipkd_sdk.runtimes.load import LoadOptions, open_matcher
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime
from flipkd_sdk.runtimes.reference_vectors import load_self_test, made_up_sample, median_distance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(autouse=True)
def forget_what_passed() -> Iterator[None]:
    reference_vectors._passed.clear()
    yield
    reference_vectors._passed.clear()


@pytest.fixture(autouse=True)
def this_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_vectors, "instruction_sets", lambda: ("here",))


@pytest.fixture
def directory(tiny_matcher: Path, tmp_path: Path) -> Path:
    """A matcher with a self-test from a CPU with other instruction sets."""
    copy = shutil.copytree(tiny_matcher, tmp_path / "matcher")
    add_self_test(copy)
    return copy


def saturate(content: bytes) -> bytes:
    """A model whose sums stop at a limit, as those of overflowing integer kernels do."""
    model = onnx.load_from_string(content)
    (place,) = (i for i, node in enumerate(model.graph.node) if node.output[0] == "mixed")
    model.graph.node[place].output[0] = "exact"
    model.graph.node.insert(place + 1, helper.make_node("Clip", ["exact", "least", "most"], ["mixed"]))
    limits = {"least": np.float32(-1), "most": np.float32(1)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in limits.items())
    return model.SerializeToString()


def sabotage(directory: Path, precision: str = "int8") -> None:
    """Make a variant compute what it would on a CPU where it overflows."""
    model = (directory / f"model_{precision}.onnx").read_bytes()
    replace_model(directory, saturate(model), precision=precision)


def distance(directory: Path, precision: str) -> float:
    opened = open_matcher(directory, LoadOptions(device="cpu", precision=precision), self_test=False)
    stored = load_self_test(directory, opened.manifest)
    assert stored is not None
    return median_distance(opened.encoder, stored, precision)


def test_the_same_vectors_pass(directory: Path) -> None:
    assert distance(directory, "int8") < 5e-4, "what float16 costs"
    with Matcher.load(directory, device="cpu") as matcher:
        assert matcher.precision == "int8"


def test_saturated_sums_are_found_and_refused_with_advice(directory: Path) -> None:
    sabotage(directory)
    assert distance(directory, "int8") > 2 * REFERENCE_DISTANCE
    with pytest.raises(SelfTestError) as caught:
        Matcher.load(directory, device="cpu")
    message = str(caught.value)
    assert isinstance(caught.value, FlipKDError)
    assert message.startswith(
        f"{directory / 'model_int8.onnx'}: returns other vectors on this CPU (here) than at export (another), "
    )
    assert "; load with precision='fp32', or export it again on such a CPU; " in message
    assert f"'flipkd verify {directory}' shows more" in message
    Matcher.load(directory, device="cpu", precision="fp32").close()


def test_without_fp32_it_is_not_advised(tmp_path: Path) -> None:
    directory = write_tiny_matcher(tmp_path / "matcher", precisions=("int8",))
    add_self_test(directory)
    sabotage(directory)
    with pytest.raises(SelfTestError, match="export a variant of another precision"):
        Matcher.load(directory, device="cpu")


def test_a_text_or_two_may_jump(directory: Path) -> None:
    """Rounding at a value half-way between two levels does that to a correct variant."""
    manifest = read_manifest(directory)
    stored = load_self_test(directory, manifest)
    assert stored is not None
    vectors = stored.vectors["int8"].copy()
    vectors[:3] *= -1
    add_self_test(directory, vectors={"int8": vectors})
    Matcher.load(directory, device="cpu").close()
    vectors[3:6] *= -1
    add_self_test(directory, vectors={"int8": vectors})
    with pytest.raises(SelfTestError):
        Matcher.load(directory, device="cpu")


def test_on_the_cpu_of_the_export_it_is_not_run(directory: Path) -> None:
    add_self_test(directory, instruction_sets=("here",))
    sabotage(directory)
    Matcher.load(directory, device="cpu").close()


def test_on_a_cpu_of_unknown_kind_it_is_run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_self_test(directory, instruction_sets=())
    sabotage(directory)
    monkeypatch.setattr(reference_vectors, "instruction_sets", lambda: ())
    with pytest.raises(SelfTestError, match=r"on this CPU \(of unknown kind\) than at export \(unknown\)"):
        Matcher.load(directory, device="cpu")


def test_it_is_run_once_per_process_and_variant(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    def count(encoder: object, stored: object, precision: str) -> float:
        runs.append(precision)
        return 0.0

    monkeypatch.setattr(reference_vectors, "median_distance", count)
    for precision in ("int8", "int8", "fp32", "int8", "fp32"):
        Matcher.load(directory, device="cpu", precision=precision).close()
    assert runs == ["int8", "fp32"]
    add_self_test(directory, vectors={"int8": np.eye(8, 16, dtype=np.float32)})
    Matcher.load(directory, device="cpu").close()
    assert runs == ["int8", "fp32", "int8"], "another self-test"


def test_one_that_failed_is_refused_again(directory: Path) -> None:
    sabotage(directory)
    for _ in range(2):
        with pytest.raises(SelfTestError):
            Matcher.load(directory, device="cpu")


def test_a_directory_without_one_is_opened(tiny_matcher: Path) -> None:
    assert read_manifest(tiny_matcher).self_test is None
    Matcher.load(tiny_matcher, device="cpu").close()


@pytest.mark.parametrize("damage", ["missing", "changed", "without int8"])
def test_a_damaged_self_test_is_an_error(directory: Path, damage: str) -> None:
    file = directory / "self_test.json"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text(file.read_text().replace("int8", "int4"))
    if damage == "without int8":
        write_manifest(directory, replace(read_manifest(directory), self_test=named(file)))
    messages = {"missing": "missing; export", "changed": "SHA-256", "without int8": "no vectors of the int8 variant"}
    with pytest.raises(MatcherDirectoryError, match=messages[damage]):
        Matcher.load(directory, device="cpu")


def test_no_token_of_the_sample_is_special(directory: Path) -> None:
    texts = made_up_sample(directory, read_manifest(directory))
    assert min(token for text in texts for token in text) > 2, "<pad>, <s> and </s> come first"
    assert [len(text) for text in texts] == [1, 2, 4, 8] * 2


def quantized_to_8_bits(directory: Path, working: Path) -> bytes:
    """The tiny model in static int8 with weights of 8 bits, which overflow on x86 CPUs without VNNI."""
    load_onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Samples(CalibrationDataReader):
        def __init__(self) -> None:
            self.texts = iter(made_up_sample(directory, read_manifest(directory)))

        def get_next(self) -> dict[str, NDArray[np.int64]] | None:
            return next(map(inputs, self.texts), None)

    target = working / "int8.onnx"
    extra = {
        "MatMulConstBOnly": True,
        "OpTypesToExcludeOutputQuantization": ["MatMul"],
        "WeightSymmetric": True,
        "ActivationSymmetric": False,
    }
    quantize_static(
        directory / "model_fp32.onnx",
        target,
        Samples(),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        extra_options=extra,
        **_unsigned_by_signed(),
    )
    return target.read_bytes()


def _unsigned_by_signed() -> dict[str, object]:
    from onnxruntime.quantization import QuantType

    return {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}


def inputs(ids: tuple[int, ...]) -> dict[str, NDArray[np.int64]]:
    return {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}


def exact_vectors(model: bytes, texts: tuple[tuple[int, ...], ...]) -> NDArray[np.float32]:
    """What the model gives where nothing overflows: without optimizations int8 products are computed in float32."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, inputs(ids))[0] for ids in texts])


def products_overflow_here() -> bool:
    """Whether this CPU's product of the largest unsigned and signed 8-bit values is wrong."""
    onnxruntime = load_onnxruntime()
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "g",
        [value("a", onnx.TensorProto.UINT8, ["m", "k"]), value("b", onnx.TensorProto.INT8, ["k", "n"])],
        [value("y", onnx.TensorProto.INT32, ["m", "n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    product = session.run(None, {"a": np.full((8, 64), 255, np.uint8), "b": np.full((64, 16), 127, np.int8)})[0]
    return not (product == 255 * 127 * 64).all()


def test_weights_of_8_bits_are_refused_where_and_only_where_they_overflow(directory: Path, tmp_path: Path) -> None:
    model = quantized_to_8_bits(directory, tmp_path)
    replace_model(directory, model, precision="int8")
    exact = exact_vectors(model, made_up_sample(directory, read_manifest(directory)))
    add_self_test(directory, vectors={"int8": exact})
    if products_overflow_here():
        assert distance(directory, "int8") > 2 * REFERENCE_DISTANCE
        with pytest.raises(SelfTestError):
            Matcher.load(directory, device="cpu")
    else:
        assert distance(directory, "int8") < REFERENCE_DISTANCE / 2
        Matcher.load(directory, device="cpu").close()


def test_another_process_is_refused_too(directory: Path) -> None:
    sabotage(directory)
    script = f"from flipkd_sdk import Matcher; Matcher.load({str(directory)!r}, device='cpu')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "flipkd_sdk.errors.SelfTestError: " in done.stderr
