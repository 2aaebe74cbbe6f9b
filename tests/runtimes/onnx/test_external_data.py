from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tiny import tiny_model

from flipkd_sdk.runtimes.onnx.external_data import has_external_data

PLAIN = tiny_model(vocabulary=50, dimension=16)


def elsewhere() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros((2, 2), dtype=np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def sparse(values: TensorProto, indices: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[2])


def node(attribute: object) -> onnx.NodeProto:
    return helper.make_node("If", [], ["y"], then_branch=attribute)


def with_graph(**fields: object) -> onnx.ModelProto:
    return onnx.ModelProto(graph=onnx.GraphProto(**fields))  # type: ignore[arg-type]


INNER = onnx.GraphProto(name="inner", initializer=[elsewhere()])
FUNCTION = onnx.FunctionProto(name="f", domain="d", node=[node(elsewhere())])
HIDING_PLACES = {
    "an initializer": with_graph(initializer=[elsewhere()]),
    "a constant": with_graph(node=[node(elsewhere())]),
    "a list of constants": with_graph(node=[node([elsewhere()])]),
    "an inner graph": with_graph(node=[node(INNER)]),
    "a list of inner graphs": with_graph(node=[node([INNER])]),
    "a graph in an inner graph": with_graph(node=[node(onnx.GraphProto(name="middle", node=[node(INNER)]))]),
    "sparse values": with_graph(sparse_initializer=[sparse(elsewhere(), TensorProto())]),
    "sparse indices": with_graph(sparse_initializer=[sparse(TensorProto(), elsewhere())]),
    "a sparse constant": with_graph(node=[node(sparse(elsewhere(), TensorProto()))]),
    "a function": onnx.ModelProto(functions=[FUNCTION]),
    "training": onnx.ModelProto(training_info=[onnx.TrainingInfoProto(initialization=INNER)]),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_weights_elsewhere_are_found_wherever_a_tensor_can_be(place: str) -> None:
    assert has_external_data(HIDING_PLACES[place].SerializeToString())


def test_a_number_written_longer_than_needed_hides_nothing() -> None:
    tensor = elsewhere()
    plain = tensor.SerializeToString()
    padded = plain.replace(b"\x0a\x08location", b"\x0a\x88\x80\x00location")
    padded = padded.replace(bytes([13 << 3 | 2, 23]), bytes([13 << 3 | 2, 25]))
    assert TensorProto.FromString(padded) == tensor
    assert padded != plain
    model = b"\x3a" + bytes([len(padded) + 2]) + b"\x2a" + bytes([len(padded)]) + padded
    assert onnx.ModelProto.FromString(model).graph.initializer[0].external_data
    assert has_external_data(model)


def test_a_model_that_keeps_its_weights_is_told_from_one_that_names_them() -> None:
    assert not has_external_data(PLAIN)
    model = onnx.ModelProto.FromString(PLAIN)
    model.doc_string = "\n\x08location"
    model.graph.initializer[0].doc_string = "external_data"
    assert not has_external_data(model.SerializeToString())


@given(st.binary(max_size=60))
def test_whatever_the_bytes_are_it_ends(content: bytes) -> None:
    try:
        has_external_data(content)
    except ValueError as error:
        assert str(error)


@given(st.integers(0, len(PLAIN) - 1), st.binary(min_size=1, max_size=4))
def test_what_protobuf_reads_is_read_as_it_does(place: int, new: bytes) -> None:
    content = PLAIN[:place] + new + PLAIN[place + len(new) :]
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception:  # noqa: BLE001 - protobuf's own error has no stable name
        return
    try:
        found = has_external_data(content)
    except ValueError:
        return  # Groups, which protobuf skips and no ONNX file has.
    assert found or not any(tensor.external_data for tensor in model.graph.initializer)
