"""A further output of an exported graph: A·h of each token.

The vector of a text is normalize(A · mean(h)), and pooling comes first in the graph because it is cheaper. Both are
linear, so A · h of each token adds up to the same vector. The rows of a static student, which has no A, add up to it
themselves. The nodes that compute the output are appended to the serialized model: protobuf merges a second ``graph``
field into the first. The model's own nodes and weights stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flipkd_sdk.runtimes.onnx.external_data import embedded_fields
from flipkd_sdk.runtimes.onnx.session import OUTPUT, TOKEN_PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

# Field numbers of onnx.proto.
_GRAPH, _NODE, _GRAPH_OUTPUT = 7, 1, 12
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7

_PRODUCTS = ("Gemm", "MatMul", "MatMulNBits")
"""Operators of the projection A."""
_BETWEEN = ("Cast", "Div", "Squeeze")
"""Operators between the sum over tokens and the projection."""
_SHAPE_ONLY = ("Cast", "Unsqueeze", "Reshape")
"""Operators between the attention mask and the sum over tokens."""
_MASK = "attention_mask"
_STEPS = 32
"""Most nodes between the output and the projection, and between the projection and the sum; half of them are casts in
fp16 graphs."""


class _Node(NamedTuple):
    operator: str
    inputs: list[str]
    kept: bytes
    """Serialized operator, domain and attributes."""


def token_parts(content: bytes) -> bytes | None:
    """Return what to append to a serialized model for the output `TOKEN_PARTS`, shape (batch · sequence, d).

    Returns:
        None if the graph does not end in a sum over tokens, a projection without bias or none, and a normalization.

    Raises:
        ValueError: the content is not a protobuf message.
    """
    producers = _producers(content)
    name = OUTPUT
    for _ in range(_STEPS):
        projection = producers.get(name)
        if projection is None:
            return None
        if projection.operator == "MatMul" and _is_mask(producers, projection.inputs[0]):
            return _appended(None, projection.inputs[1])
        if projection.operator in _PRODUCTS:
            hidden = _before_pooling(producers, projection.inputs[0])
            if hidden is None or (projection.operator == "Gemm" and len(projection.inputs) > 2):
                return None
            return _appended(projection, hidden)
        name = projection.inputs[0]
    return None


def _producers(content: bytes) -> dict[str, _Node]:
    """Return the nodes of the main graph by the names of their outputs."""
    producers = {}
    for number, start, end in embedded_fields(content, 0, len(content)):
        if number != _GRAPH:
            continue
        for part, node_start, node_end in embedded_fields(content, start, end):
            if part == _NODE:
                node, outputs = _node(content, node_start, node_end)
                producers.update(dict.fromkeys(outputs, node))
    return producers


def _node(content: bytes, start: int, end: int) -> tuple[_Node, list[str]]:
    operator, inputs, outputs, kept = "", [], [], b""
    for number, first, last in embedded_fields(content, start, end):
        value = content[first:last]
        if number == _INPUT:
            inputs.append(value.decode())
        elif number == _OUTPUT:
            outputs.append(value.decode())
        elif number in (_OP_TYPE, _ATTRIBUTE, _DOMAIN):
            kept += _field(number, value)
            operator = value.decode() if number == _OP_TYPE else operator
    return _Node(operator, inputs, kept), outputs


def _before_pooling(producers: Mapping[str, _Node], name: str) -> str | None:
    """Return the name of the hidden states whose sum over tokens leads to a value."""
    for _ in range(_STEPS):
        node = producers.get(name)
        if node is None:
            return None
        if node.operator == "MatMul":
            return node.inputs[1]  # the mask comes first
        if node.operator == "ReduceSum":
            return node.inputs[0]
        if node.operator not in _BETWEEN:
            return None
        name = node.inputs[0]
    return None


def _is_mask(producers: Mapping[str, _Node], name: str) -> bool:
    """Return True if a value is the attention mask in another shape or type."""
    for _ in range(_STEPS):
        node = producers.get(name)
        if node is None or node.operator not in _SHAPE_ONLY:
            break
        name = node.inputs[0]
    return name == _MASK


def _appended(projection: _Node | None, hidden: str) -> bytes:
    states, rows = f"{TOKEN_PARTS}/states", f"{TOKEN_PARTS}/rows" if projection else TOKEN_PARTS
    # The projection computes in float32, also where the hidden states are float16; Gemm takes two dimensions.
    nodes = [
        _new_node([hidden], states, _field(_OP_TYPE, b"Cast") + _attribute("to", 1)),
        _new_node([states], rows, _field(_OP_TYPE, b"Flatten") + _attribute("axis", 2)),
    ]
    if projection is not None:
        nodes.append(_new_node([rows, *projection.inputs[1:]], TOKEN_PARTS, projection.kept))
    output = _field(_GRAPH_OUTPUT, _field(1, TOKEN_PARTS.encode()))
    return _field(_GRAPH, b"".join(_field(_NODE, node) for node in nodes) + output)


def _new_node(inputs: list[str], output: str, kept: bytes) -> bytes:
    return b"".join(_field(_INPUT, name.encode()) for name in inputs) + _field(_OUTPUT, output.encode()) + kept


def _attribute(name: str, value: int) -> bytes:
    """Return an integer attribute: name, value and the type INT."""
    return _field(_ATTRIBUTE, _field(1, name.encode()) + bytes([3 << 3, value, *_varint(20 << 3), 2]))


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
