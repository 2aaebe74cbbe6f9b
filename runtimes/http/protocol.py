"""HTTP on a connection: uvicorn's protocol with limits of the time and the size of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

_HEADER_BYTES = 1 << 14


class TimedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with a deadline for the headers and the body of each request, and at most 16 KiB of headers.

    Uvicorn itself waits for ever for the rest of a request, and such connections count against its limit.
    """

    seconds = 10.0
    _deadline: asyncio.TimerHandle | None = None
    _arriving = True
    """A request is awaited: the first one, or the rest of one that has begun."""
    _in_headers = False
    _header_bytes = 0
    """Bytes of the address and the headers that the parser has passed on."""
    _unparsed_bytes = 0
    """Bytes received since a read in which the headers were unfinished already."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn narrows asyncio's type
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; the last one ends the deadline."""
        unfinished = self._in_headers
        super().data_received(data)
        if unfinished and self._in_headers:
            # The parser passes a header on once it is complete, so that one without an end must be counted here.
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > _HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too large.")
        if self._is_idle():
            # Even empty lines end the limit of idle connections, so that they begin the deadline.
            self._arriving = True
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to count the headers of a request."""
        super().on_message_begin()
        self._arriving = self._in_headers = True
        self._header_bytes = self._unparsed_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Read a part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        self._arriving = False
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _HEADER_BYTES:
            raise ValueError("the headers are too large")  # The parser ends with an error, which is answered 400.

    def _is_idle(self) -> bool:
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def _watch(self) -> None:
        if not self._arriving:
            self._stop()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.seconds, self._expire)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        # In headers, the cycle is that of an earlier request.
        if self.pipeline or (self._in_headers and not self._is_idle()):
            self._watch()
            return
        if self._in_headers or self._is_idle() or not self.cycle.response_started:
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


def timed_protocol(seconds: float) -> type[TimedProtocol]:
    """Return the protocol with a deadline of its own."""
    return type("TimedProtocol", (TimedProtocol,), {"seconds": seconds})
