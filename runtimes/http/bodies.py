"""Bodies of requests: JSON Schemas, which the OpenAPI document shows, and the check against them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flipkd_sdk.artifact import strict_json
from flipkd_sdk.runtimes.http.replies import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

Schema = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
}


def schemas(max_pairs: int, max_characters: int) -> dict[str, Schema]:
    """Return the schema of each endpoint's body."""
    text = {"type": "string", "maxLength": max_characters}
    pair = _object({"a": text, "b": text})
    texts = {"type": "array", "items": text, "maxItems": 2 * max_pairs}
    rank = {
        "query": text,
        "top_k": {"type": "integer", "minimum": 1, "maximum": 1000},
        "score_cutoff": {"type": "number", "minimum": 0, "maximum": 1},
    }
    # Clients of OpenAI's API send more fields than these.
    embeddings = {"input": {"anyOf": [text, texts]}, "encoding_format": {"enum": ["float", "base64"]}}
    return {
        "/score": pair,
        "/pairs": _object({"pairs": {"type": "array", "items": pair, "maxItems": max_pairs}}),
        "/rank": _object(rank, required=["query"]),
        "/encode": _object({"texts": texts}),
        "/explain": pair,
        "/v1/embeddings": _object(embeddings, required=["input"], closed=False),
    }


async def read_body(request: Request, schema: Schema) -> Any:  # noqa: ANN401 - the schema decides
    """Return the body of a request, checked against its schema.

    Raises:
        RequestError: it is not JSON, or does not fit the schema; the message names the value.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(415, "send JSON with the header Content-Type: application/json")
    try:
        value = strict_json.parse(await request.body())
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is no JSON in UTF-8 ({_short(error)})") from None
    check(value, schema, "body")
    return value


def check(value: Any, schema: Schema, where: str) -> None:  # noqa: ANN401 - the schema decides
    """Check a value against the part of JSON Schema that `schemas` uses.

    Raises:
        RequestError: it does not fit; the message names it.
    """
    for option in schema.get("anyOf", ()):
        if _fits(value, option):
            check(value, option, where)
            return
    if "anyOf" in schema:
        raise _wrong(where, "is neither a text nor a list of texts")
    if "enum" in schema:
        if value not in schema["enum"]:
            raise _wrong(where, f"must be one of {json.dumps(schema['enum'])}")
        return
    if not _fits(value, schema):
        raise _wrong(where, f"is not {_named(schema['type'])}")
    _CHECKS[schema["type"]](value, schema, where)


def _check_list(value: list[Any], schema: Schema, where: str) -> None:
    if len(value) > schema["maxItems"]:
        raise _wrong(where, f"has {len(value)} items; at most {schema['maxItems']} are accepted")
    for i, item in enumerate(value):
        check(item, schema["items"], f"{where}[{i}]")


def _check_text(value: str, schema: Schema, where: str) -> None:
    if len(value) > schema["maxLength"]:
        raise _wrong(where, f"has {len(value)} characters; at most {schema['maxLength']} are accepted")


def _check_number(value: float, schema: Schema, where: str) -> None:
    if not schema["minimum"] <= value <= schema["maximum"]:
        raise _wrong(where, f"must be from {schema['minimum']} to {schema['maximum']}")


def _check_object(value: dict[str, Any], schema: Schema, where: str) -> None:
    for name in schema["required"]:
        if name not in value:
            raise _wrong(where, f"lacks {name!r}")
    for name, item in value.items():
        if name in schema["properties"]:
            check(item, schema["properties"][name], f"{where}.{name}")
        elif not schema["additionalProperties"]:
            raise _wrong(where, f"has an unknown key {name[:40]!r}; known are {', '.join(schema['properties'])}")


_CHECKS: dict[str, Callable[[Any, Schema, str], None]] = {
    "object": _check_object,
    "array": _check_list,
    "string": _check_text,
    "integer": _check_number,
    "number": _check_number,
}


def _object(properties: Schema, *, required: list[str] | None = None, closed: bool = True) -> Schema:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": not closed}


def _fits(value: object, schema: Schema) -> bool:
    return isinstance(value, _TYPES[schema["type"]]) and not isinstance(value, bool)


def _named(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"


def _wrong(where: str, what: str) -> RequestError:
    return RequestError(422, f"{where} {what}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
