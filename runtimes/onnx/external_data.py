"""Search of an ONNX file for tensors that keep their weights in other files.

Such files are named in the model but not in the manifest, so onnxruntime would load them unchecked. The walk follows
protobuf's lengths from tensor to tensor and skips the weights. It reads no message that protobuf's parsers could read
in two ways: every tag and length must be written as protobuf writes it, in as few bytes as possible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

_EXTERNAL_DATA = 13
"""Number of `TensorProto.external_data`."""

_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse_tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse_tensor", 23: "sparse_tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "sparse_tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Messages of onnx.proto on the way to a tensor, each with the numbers and messages of the fields that lead on."""

_MAX_FIELDS = 1_000_000
"""A thousand times as many as an exported encoder has; a graph of 20 million empty nodes would take minutes."""
_MAX_DEPTH = 100
"""Protobuf's own limit."""
_MAX_TAG = (1 << 32) - 1
_MAX_LENGTH = (1 << 31) - 1


def has_external_data(content: bytes | mmap) -> bool:
    """Return True if any tensor of a serialized model refers to another file.

    Raises:
        ValueError: the content is not a protobuf message as protobuf writes it, or it is too large to walk.
    """
    walk = [("model", embedded_fields(content, 0, len(content)))]
    fields = 0
    while walk:
        message, remaining = walk[-1]
        field = next(remaining, None)
        if field is None:
            walk.pop()
            continue
        number, start, end = field
        fields += 1
        if fields > _MAX_FIELDS:
            raise ValueError(f"more than {_MAX_FIELDS} fields")
        if message == "tensor" and number == _EXTERNAL_DATA:
            return True
        inner = _FIELDS[message].get(number)
        if inner is not None:
            if len(walk) == _MAX_DEPTH:
                raise ValueError(f"messages nested more than {_MAX_DEPTH} deep")
            walk.append((inner, embedded_fields(content, start, end)))
    return False


def embedded_fields(content: bytes | mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each length-delimited field: a string, an array or another message."""
    position = start
    while position < end:
        tag, position = _shortest_varint(content, position, end, _MAX_TAG)
        if tag < 8:
            raise ValueError("a field of number 0")
        match tag & 7:
            case 0:
                _, position = _varint(content, position, end)
            case 1:
                position += 8
            case 2:
                length, position = _shortest_varint(content, position, end, _MAX_LENGTH)
                if length <= end - position:
                    yield tag >> 3, position, position + length
                position += length
            case 5:
                position += 4
            case kind:
                raise ValueError(f"a field of the unknown kind {kind}")
        if position > end:
            raise ValueError("a field runs over the end of its message")


def _shortest_varint(content: bytes | mmap, position: int, end: int, most: int) -> tuple[int, int]:
    """Return a tag or a length and the position after it.

    onnxruntime's parser drops the high bits of a tag's fifth byte. A longer form could thus name one field here and
    another one there.
    """
    value, after = _varint(content, position, end)
    if value > most:
        raise ValueError(f"a tag or length of {value}; at most {most} is possible")
    if after - position > 1 and content[after - 1] == 0:
        raise ValueError("a tag or length in more bytes than it needs")
    return value, after


def _varint(content: bytes | mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 64:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number runs over its end")
