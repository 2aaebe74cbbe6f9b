"""Does an ONNX file keep weights in other files?

Such files are named in the model but not in the manifest, so onnxruntime would load them unchecked. The file is walked
along protobuf's lengths, from tensor to tensor, without reading the weights themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

_EXTERNAL_DATA = 13
"""Number of `TensorProto.external_data`."""

# Where tensors can be: by message of onnx.proto, the numbers of its fields that lead on and the messages found there.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse_tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse_tensor", 23: "sparse_tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "sparse_tensor": {1: "tensor", 2: "tensor"},
}


def has_external_data(content: bytes | mmap) -> bool:
    """Whether any tensor of a serialized model refers to another file.

    Raises:
        ValueError: it is not a well-formed protobuf message.
    """
    pending = [("model", 0, len(content))]
    while pending:
        message, start, end = pending.pop()
        for number, value_start, value_end in _embedded(content, start, end):
            if message == "tensor":
                if number == _EXTERNAL_DATA:
                    return True
            elif (found := _FIELDS[message].get(number)) is not None:
                pending.append((found, value_start, value_end))
    return False


def _embedded(content: bytes | mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a message that holds bytes: a string, an array or another message."""
    position = start
    while position < end:
        tag, position = _varint(content, position, end)
        match tag & 7:
            case 0:
                _, position = _varint(content, position, end)
            case 1:
                position += 8
            case 2:
                length, position = _varint(content, position, end)
                yield tag >> 3, position, position + length
                position += length
            case 5:
                position += 4
            case kind:
                raise ValueError(f"field of an unknown kind, {kind}")
        if position > end:
            raise ValueError("a field runs over the end of its message")


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
