"""Limits of the size of bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flipkd_sdk.runtimes.http.replies import refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

DISCARDED_BYTES = 16 << 20
"""Bytes of an oversized body that are read and dropped, so that an ordinary client gets to read the answer 413."""


class BodyLimit:
    """ASGI middleware that answers 413 to a body larger than ``max_bytes``, without keeping it in memory.

    All bodies that are arriving may take ``max_total`` bytes together; more are answered 429.
    """

    def __init__(self, app: App, *, max_bytes: int, max_total: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_total = max_total
        self._held = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Read the body, then call the application with it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = bytearray()
        try:
            status = await self._read(receive, body)
            # The content is copied, so that it is no longer counted here.
            content = bytes(body)
        finally:
            self._held -= len(body)
        if status == 413:
            reply = refusal(413, f"the body is larger than {self.max_bytes} bytes", close=True)
            await reply(scope, receive, send)
        elif status == 429:
            await refusal(429, "too many large bodies at once; try again", close=True)(scope, receive, send)
        elif status == 200:
            await self.app(scope, _replay(content, receive), send)

    async def _read(self, receive: Receive, body: bytearray) -> int:
        """Read a body and return 200, 413 or 429, or 0 if the client is gone."""
        total, more, most = 0, True, max(self.max_bytes, DISCARDED_BYTES)
        while more and total <= most:
            message = await receive()
            if message["type"] == "http.disconnect":
                return 0
            part = message.get("body", b"")
            total += len(part)
            more = message.get("more_body", False)
            if self._held + len(part) > self.max_total:
                return 429
            if total <= self.max_bytes:
                body += part
                self._held += len(part)
        return 413 if total > self.max_bytes else 200


def _replay(content: bytes, receive: Receive) -> Receive:
    waiting = [content]

    async def replay() -> Message:
        if not waiting:
            return await receive()
        return {"type": "http.request", "body": waiting.pop(), "more_body": False}

    return replay
