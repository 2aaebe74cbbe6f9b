"""Answers of the servers: JSON, and errors in one form."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

from flipkd_sdk.errors import FlipKDError

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    # A policy within a page cannot forbid frames around it.
    (b"content-security-policy", b"frame-ancestors 'none'"),
)


class Json(JSONResponse):
    """JSON in ASCII, because no encoding has a form for the half surrogate pairs that a text may contain."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - as Starlette declares it
        """Return the content as bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class RequestError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        message: one line that names the value and the remedy.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def refusal(status: int, message: str, *, close: bool = False) -> Json:
    """Return an error as ``{"error": {"message": …, "type": …}}``, which clients of OpenAI's API read too."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    headers = {"connection": "close"} if close else {}
    if status == 429:
        headers["retry-after"] = "1"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Json({"error": {"message": message, "type": kind}}, status, headers=headers)


def failure(error: Exception) -> Json:
    """Return the answer to an error that a request has caused or met."""
    if isinstance(error, RequestError):
        return refusal(error.status, str(error))
    if isinstance(error, FlipKDError):
        return refusal(422 if isinstance(error, ValueError) else 503, str(error))
    return refusal(500, "internal error; the log has the details")
