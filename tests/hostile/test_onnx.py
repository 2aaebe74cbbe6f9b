"""ONNX files that onnxruntime and a careless walker read in two ways: each is refused, and no other file is opened."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tiny import replace_model, tiny_model

from flipkd_sdk.errors import MatcherDirectoryError
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx.external_data import has_external_data
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime, onnxruntime_errors

MODEL = tiny_model(vocabulary=340, dimension=16)


def varint(value: int, *, size: int = 1) -> bytes:
    """Encode a number in at least ``size`` bytes."""
    content = bytearray()
    while value >= 0x80 or len(content) < size - 1:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


def field(number: int, content: bytes, *, tag: bytes | None = None, length: bytes | None = None) -> bytes:
    """Encode a length-delimited field, with another tag or length where given."""
    return (tag or varint(number << 3 | 2)) + (length or varint(len(content))) + content


def with_weights_elsewhere() -> onnx.ModelProto:
    """Build the tiny model with its read-out in ``weights.bin``."""
    model = onnx.ModelProto.FromString(MODEL)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "read_out")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return model


def parts() -> tuple[bytes, bytes]:
    """Return the model with external weights without its graph, and the graph."""
    model = with_weights_elsewhere()
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    return model.SerializeToString(), graph


REST, GRAPH = parts()
HIGH_BITS = bytes([0xBA, 0x80, 0x80, 0x80, 0x10])
"""The tag of field 7 with a bit above the 32nd, which onnxruntime drops."""
DISGUISES = {
    "high bits in the tag's fifth byte": REST + field(7, GRAPH, tag=HIGH_BITS),
    "every high bit of the fifth byte": REST + field(7, GRAPH, tag=bytes([0xBA, 0x80, 0x80, 0x80, 0x70])),
    "a tag of ten bytes": REST + field(7, GRAPH, tag=varint(7 << 3 | 2, size=10)),
    "a tag of eleven bytes": REST + field(7, GRAPH, tag=varint(7 << 3 | 2, size=11)),
    "a tag of two bytes": REST + field(7, GRAPH, tag=varint(7 << 3 | 2, size=2)),
    "a length of five bytes": REST + field(7, GRAPH, length=varint(len(GRAPH), size=5)),
    "a length of ten bytes": REST + field(7, GRAPH, length=varint(len(GRAPH), size=10)),
    "a length of 2 GiB and more": REST + field(7, GRAPH, length=varint(len(GRAPH) + (1 << 32))),
    "a length that is negative": REST + field(7, GRAPH, length=varint((1 << 64) - 1)),
    "a field of number 0 before it": REST + field(0, b"ab") + field(7, GRAPH),
    "a tag of 0 before it": REST + b"\0" + field(7, GRAPH),
    "a group around it": REST + bytes([3 << 3 | 3]) + field(7, GRAPH) + bytes([3 << 3 | 4]),
    "the end of a group before it": REST + bytes([3 << 3 | 4]) + field(7, GRAPH),
    "wire type 6": REST + bytes([3 << 3 | 6]) + field(7, GRAPH),
    "wire type 7": REST + bytes([3 << 3 | 7]) + field(7, GRAPH),
    "a string that hides it by its length": REST + field(2, b"", length=varint(len(GRAPH) + 50)) + field(7, GRAPH),
    "a second graph": REST + field(7, b"") + field(7, GRAPH),
    "a graph in two parts": REST + field(7, GRAPH[:0]) + field(7, GRAPH) + field(7, b""),
    "an unknown field before it": REST + field((1 << 29) - 1, b"x" * 9) + field(7, GRAPH),
    "unknown numbers before it": REST + varint(99 << 3) + varint((1 << 64) - 1) + field(7, GRAPH),
}


@pytest.fixture
def directory(tiny_matcher: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_matcher, tmp_path / "matcher")


def place_weights(where: Path) -> None:
    (where / "weights.bin").write_bytes(np.zeros((24, 16), np.float32).tobytes())


@pytest.mark.parametrize("disguise", DISGUISES)
def test_weights_elsewhere_are_refused_in_any_disguise(disguise: str, directory: Path) -> None:
    place_weights(directory)
    replace_model(directory, DISGUISES[disguise])
    with pytest.raises(MatcherDirectoryError, match=r"keeps weights in another file|not an ONNX file") as caught:
        Matcher.load(directory, precision="fp32")
    assert "\n" not in str(caught.value)


def test_onnxruntime_loads_the_tag_with_high_bits(directory: Path) -> None:
    """The attack is real: without the check onnxruntime reads ``weights.bin``."""
    place_weights(directory)
    path = directory / "model.onnx"
    path.write_bytes(DISGUISES["high bits in the tag's fifth byte"])
    session = load_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == ["sentence_embedding"]
    (directory / "weights.bin").unlink()
    with pytest.raises(onnxruntime_errors(), match=r"weights\.bin"):
        load_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_a_directory_that_is_not_utf_8_takes_no_weights_from_the_working_directory(
    tiny_matcher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(shutil.copytree(tiny_matcher, Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))))
    place_weights(tmp_path)
    monkeypatch.chdir(tmp_path)
    for content in DISGUISES.values():
        replace_model(directory, content)
        with pytest.raises(MatcherDirectoryError):
            Matcher.load(directory, precision="fp32")


@pytest.mark.parametrize("name", ["model.onnx", "model.ort"])
@pytest.mark.parametrize("suffix", [b"", b"\xff"], ids=["utf-8", "not utf-8"])
def test_a_model_in_onnxruntimes_own_format_is_refused(
    name: str, suffix: bytes, tiny_matcher: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(tiny_matcher, Path(os.fsdecode(os.fsencode(tmp_path) + b"/m" + suffix))))
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    manifest = (directory / "manifest.json").read_text().replace("model_fp32.onnx", name)
    (directory / "manifest.json").write_text(manifest)
    replace_model(directory, (tmp_path / "model.ort").read_bytes())
    with pytest.raises(MatcherDirectoryError, match="not an ONNX file"):
        Matcher.load(directory, precision="fp32")


def test_a_name_of_another_format_does_not_change_how_a_model_is_read(directory: Path) -> None:
    (directory / "model_fp32.onnx").rename(directory / "model.ort")
    manifest = (directory / "manifest.json").read_text().replace("model_fp32.onnx", "model.ort")
    (directory / "manifest.json").write_text(manifest)
    with Matcher.load(directory, precision="fp32") as matcher:
        assert 0 <= matcher.score("a", "b") <= 1


def test_millions_of_empty_messages_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 1000000 fields"):
        has_external_data(REST + field(7, field(1, b"") * 1_100_000))


def test_a_graph_nested_deeper_than_protobuf_reads_is_refused() -> None:
    graph = b""
    for _ in range(200):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        has_external_data(field(7, graph))
