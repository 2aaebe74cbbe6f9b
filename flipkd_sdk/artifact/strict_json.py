"""Strict reading of JSON into declared types: no conversion, no unknown, missing or double key, only finite numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping

from flipkd_sdk.errors import MatcherDirectoryError


def parse(content: bytes) -> object:
    """Parse JSON in UTF-8, without a byte order mark.

    Raises:
        ValueError: it is not UTF-8 or not JSON, an object has a key twice, or a number is not finite.
        RecursionError: it is nested too deeply.
    """
    # Of bytes, json detects the encoding: UTF-16 and UTF-32 would be read as well.
    parsed: object = json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    return parsed


def decode(kind: typing.Any, value: object, where: str) -> typing.Any:  # noqa: ANN401 - the kind decides
    """Build a value of a declared type from parsed JSON.

    Args:
        kind: a dataclass, ``tuple[T, ...]``, ``Mapping[str, T]``, ``T | None``, str, int, bool or float; a float
            accepts an int. Fields of a dataclass with the metadata ``optional`` may be missing.
        value: the parsed JSON.
        where: name of the value in error messages.

    Raises:
        MatcherDirectoryError: the value is not of that type; the message names it.
    """
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast("type", kind), _mapping(value, where), where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else decode(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise MatcherDirectoryError(f"{where}: not a list")
        return tuple(decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        items = _mapping(value, where).items()
        return {key: decode(arguments[1], item, f"{where}[{key!r}]") for key, item in items}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        # Python raises beyond float's range, but JSON's 1e999 becomes an infinity.
        value = float(value) if abs(value) < 1 << 1023 else math.inf
    if type(value) is not kind:
        raise MatcherDirectoryError(f"{where}: expected {kind.__name__}, found {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise MatcherDirectoryError(f"{where}: not a finite number")
    return value


def _decode_dataclass(kind: type, content: Mapping[str, object], where: str) -> object:
    hints = typing.get_type_hints(kind)
    if unknown := sorted(content.keys() - hints.keys()):
        raise MatcherDirectoryError(f"{where}: unknown key {unknown[0]!r}")
    optional = {field.name for field in dataclasses.fields(kind) if field.metadata.get("optional")}
    if missing := sorted(hints.keys() - content.keys() - optional):
        raise MatcherDirectoryError(f"{where}: key {missing[0]!r} is missing")
    return kind(**{name: decode(hints[name], value, f"{where}.{name}") for name, value in content.items()})


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise MatcherDirectoryError(f"{where}: not an object")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("an object has a key twice")
    return content


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")
