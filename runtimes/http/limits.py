"""Limits of a server: the size of requests, and the time in which they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from flipkd_sdk.runtimes.http.replies import refusal

if TYPE_CHECKING:
    import asyncio
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
        total, more = 0, True
        while more and total <= DISCARDED_BYTES:
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


class TimedProtocol(H11Protocol):
    """Uvicorn's HTTP protocol with a deadline for the headers and the body of each request.

    Uvicorn itself waits for ever for the rest of a request, and such connections count against its limit.
    """

    seconds = 10.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn narrows asyncio's type
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; the last one ends the deadline."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Start the deadline of the next request if a part of it is here already."""
        super().on_response_complete()
        if self.conn.trailing_data[0]:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.seconds, self._expire)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


def timed_protocol(seconds: float) -> type[TimedProtocol]:
    """Return the protocol with a deadline of its own."""
    return type("TimedProtocol", (TimedProtocol,), {"seconds": seconds})
