"""Damage to valid files: of bytes, of JSON, of protobuf messages and of compressed data."""

from __future__ import annotations

import copy
import gzip
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    Mutator = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
    """Returns a changed file, given a valid one and strings that mean something in its format."""

MAX_BYTES = 1 << 20
"""Largest case, before it is compressed."""

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)
_VALUES = (
    None, True, False, 0, 1, -1, 1 << 31, 1 << 63, 1 << 64, 10**400, 0.5, -1e308, "", "a", "\0", "\ud800", "a\nb",
    "../weights.bin", "weights.bin", "/dev/zero", "a" * 5000, [], [[]], {}, {"": None}, [0] * 1000,
)  # fmt: skip
_RAW_VALUES = (
    "1e999",
    "NaN",
    "-Infinity",
    "[" * 3000,
    '{"a":' * 3000,
    "1" * 5000,
    "0" * 9,
    '"\\ud800"',
    "1.0",
    "\ufeff",
)
_HOLE = "@@raw@@"
_NO_FIELDS = (b"\x0b", b"\x0c", b"\x0e", b"\x0f", b"\0", b"\x9a\1\0")
"""Groups, unknown kinds and a field of number 0."""


def mutate_bytes(rng: random.Random, content: bytes, words: Sequence[bytes] = ()) -> bytes:
    """Change, insert, repeat or remove bytes at one to eight places."""
    changed = bytearray(content)
    for _ in range(min(8, 1 + int(rng.expovariate(0.7)))):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + int(rng.expovariate(0.05)))
        match rng.randrange(8):
            case 0 if start < len(changed):
                changed[start] ^= rng.choice((1 << rng.randrange(8), rng.randrange(256)))
            case 1:
                changed[start:end] = b""
            case 2:
                changed[start:start] = rng.randbytes(rng.randrange(1, 20))
            case 3:
                size = rng.choice((1, 2, 4, 8))
                number = rng.choice(_NUMBERS) & ((1 << 8 * size) - 1)
                changed[start : start + size] = number.to_bytes(size, rng.choice(("little", "big")))
            case 4:
                changed[start:start] = changed[start:end] * rng.choice((1, 2, 100))
            case 5:
                del changed[start:]
            case 6 if words:
                changed[start : rng.choice((start, end))] = rng.choice(words)
            case 7:
                other = rng.randrange(len(content) + 1)
                changed[start:end] = content[other : other + end - start]
    return bytes(changed[:MAX_BYTES])


def mutate_json(rng: random.Random, content: bytes, words: Sequence[bytes] = ()) -> bytes:
    """Change one to three values or keys of a JSON document, or its bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, content, words)
    document = json.loads(content)
    raw = _HOLE
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(places(document))
        match rng.randrange(6):
            case 0:
                container[key] = copy.deepcopy(rng.choice(_VALUES))
            case 1:
                container[key], raw = _HOLE, rng.choice(_RAW_VALUES)
            case 2:
                del container[key]
            case 3:
                other, name = rng.choice(places(document))
                container[key] = json.loads(json.dumps(other[name]))
            case 4:
                container[key] = [container[key]]
            case 5 if isinstance(container, dict):
                word = rng.choice(words).decode(errors="replace") if words else "x"
                container[word] = copy.deepcopy(container[key])
        if not document:
            break
    return json.dumps(document).replace(json.dumps(_HOLE), raw).encode("utf-8", "surrogatepass")


def places(document: Any) -> list[tuple[Any, Any]]:
    """List the containers and keys of all values in a JSON document; at most 1,000 of a container."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys[:1000]:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found or [({"": None}, "")]


def mutate_json_lines(rng: random.Random, content: bytes, words: Sequence[bytes] = ()) -> bytes:
    """Change one line of JSON, or the bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, content, words)
    lines = content.splitlines(keepends=True)
    index = rng.randrange(len(lines))
    if lines[index].startswith(b"{"):
        lines[index] = mutate_json(rng, lines[index], words) + b"\n"
    return b"".join(lines)


def mutate_gzip(inner: Mutator) -> Mutator:
    """Return a mutator that damages the content of a gzip file, its compressed form, or both."""

    def mutate(rng: random.Random, content: bytes, words: Sequence[bytes] = ()) -> bytes:
        kind = rng.randrange(5)
        plain = gzip.decompress(content)
        if kind == 0:
            return mutate_bytes(rng, content)
        if kind == 1:
            return content + mutate_bytes(rng, content)
        if kind == 2:
            # Few bytes that unpack to one long row.
            plain += rng.choice((b"a", b" ", b'"', b"\0", b",", b"[")) * rng.randrange(1 << 20, 1 << 25)
        packed = gzip.compress(inner(rng, plain, words) if kind > 2 else plain, compresslevel=1, mtime=0)
        return packed[: rng.randrange(len(packed))] if kind == 4 else packed

    return mutate


def varint(value: int, *, size: int = 1) -> bytes:
    """Encode a number as protobuf does, in at least ``size`` bytes."""
    content = bytearray()
    while value >= 0x80 or len(content) < size - 1:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


def mutate_protobuf(rng: random.Random, content: bytes, words: Sequence[bytes] = ()) -> bytes:
    """Change the fields of a protobuf message and of the messages in it, or the bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, content, words)
    return _mutated_message(rng, content, words, depth=0) or content


def _mutated_message(rng: random.Random, content: bytes, words: Sequence[bytes], depth: int) -> bytes | None:
    """Return a message with one field changed; None for bytes that are no message."""
    fields = _fields(content)
    if not fields:
        return None
    index = rng.randrange(len(fields))
    number, kind, value = fields[index]
    inner = _mutated_message(rng, value, words, depth + 1) if kind == 2 and rng.random() < 0.8 and depth < 8 else None
    encoded = [encode_field(*field) for field in fields]
    if inner is not None:
        encoded[index] = encode_field(number, kind, inner)
        return b"".join(encoded)
    match rng.randrange(8):
        case 0:
            del encoded[index]
        case 1:
            encoded.insert(rng.randrange(len(encoded) + 1), encoded[index])
        case 2:
            encoded.insert(index, rng.choice(_NO_FIELDS))
        case _:
            encoded[index] = _mutated_field(rng, number, kind, value, words)
    return b"".join(encoded)


def _mutated_field(rng: random.Random, number: int, kind: int, value: bytes, words: Sequence[bytes]) -> bytes:
    encoded = encode_field(number, kind, value)
    match rng.randrange(6):
        case 0:
            return encode_field(rng.randrange(1, 40), kind, value)
        case 1:
            tag = number << 3 | kind
            return (
                varint(tag | rng.choice((0, 1 << 32, 1 << 34)), size=rng.randrange(1, 11)) + encoded[len(varint(tag)) :]
            )
        case 2:
            return encode_field(number, 0, varint(rng.choice(_NUMBERS)))
        case 3 if kind == 2:
            length = max(0, rng.choice((len(value) + rng.randint(-3, 3), rng.choice(_NUMBERS))))
            return varint(number << 3 | 2) + varint(length, size=rng.randrange(1, 6)) + value
        case 4 if words:
            return encode_field(number, 2, rng.choice(words))
        case _:
            return encode_field(number, 2, mutate_bytes(rng, value))


def _fields(content: bytes) -> list[tuple[int, int, bytes]]:
    """Return number, kind and encoded value of each field; empty for bytes that are no message."""
    fields, position = [], 0
    while position < len(content):
        match = re.compile(rb"[\x80-\xff]{0,4}[\x00-\x7f]").match(content, position)
        if match is None:
            return []
        tag = _number(match[0])
        position = match.end()
        kind = tag & 7
        if kind == 2 or kind == 0:
            match = re.compile(rb"[\x80-\xff]{0,9}[\x00-\x7f]").match(content, position)
            if match is None:
                return []
            start, end = (position, match.end()) if kind == 0 else (match.end(), match.end() + _number(match[0]))
        elif kind in (1, 5):
            start, end = position, position + (8 if kind == 1 else 4)
        else:
            return []
        if tag < 8 or end > len(content):
            return []
        fields.append((tag >> 3, kind, content[start:end]))
        position = end
    return fields


def encode_field(number: int, kind: int, value: bytes) -> bytes:
    """Encode a field."""
    return varint(number << 3 | kind) + (varint(len(value)) if kind == 2 else b"") + value


def _number(encoded: bytes) -> int:
    return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(encoded))
