"""The OpenAPI document of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flipkd_sdk import __version__

if TYPE_CHECKING:
    from flipkd_sdk.runtimes.http.bodies import Schema

_SUMMARIES = {
    "/score": "Match probability of two texts, and the decision",
    "/pairs": "Match probabilities of several pairs",
    "/rank": "Candidates that match a text best",
    "/encode": "Unit vectors of texts",
    "/explain": "Contributions of words to the score of two texts",
    "/v1/embeddings": "Unit vectors of texts, as OpenAI's API returns them",
}
_PLAIN = {
    "/healthz": "200 while the process answers",
    "/readyz": "200 while the model runs, with the error of the last reload",
    "/metrics": "Measurements in Prometheus' format",
}
_ERRORS = {
    "400": "The body is no JSON",
    "401": "The API key is missing or wrong",
    "413": "The body is too large",
    "415": "The content type is not application/json",
    "422": "The body does not fit its schema; the message names the value",
    "429": "Too many requests are in progress",
    "503": "The model could not be run",
}


def openapi(schemas: dict[str, Schema], *, with_key: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        schemas: of the bodies, by path.
        with_key: the server requires an API key.
    """
    paths: dict[str, Any] = {
        path: {"get": {"summary": summary, "security": [], "responses": _responses()}}
        for path, summary in _PLAIN.items()
    }
    for path, schema in schemas.items():
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        paths[path] = {"post": {"summary": _SUMMARIES[path], "requestBody": body, "responses": _responses(*_ERRORS)}}
    summary = "Load the matcher directory again, without losing a request"
    paths["/reload"] = {"post": {"summary": summary, "responses": _responses("401", "403", "503")}}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "flipkd serve", "version": __version__},
        "paths": paths,
    }
    if with_key:
        document["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"key": []}]
    return document


def _responses(*errors: str) -> dict[str, Any]:
    error = {
        "type": "object",
        "properties": {
            "error": {"type": "object", "properties": {"message": {"type": "string"}, "type": {"type": "string"}}}
        },
    }
    known = {**_ERRORS, "403": "The server has no API key"}
    failed = {
        status: {"description": known[status], "content": {"application/json": {"schema": error}}} for status in errors
    }
    return {"200": {"description": "Done"}, **failed}
