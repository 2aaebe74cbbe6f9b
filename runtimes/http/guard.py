"""`Guard`: API key, length of the queue, time and headers of each answer."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from typing import TYPE_CHECKING, Any

from flipkd_sdk.runtimes.http.replies import SECURITY_HEADERS, failure, refusal

if TYPE_CHECKING:
    from collections.abc import Collection, MutableMapping

    from flipkd_sdk.runtimes.http.limits import App, Message, Receive, Send
    from flipkd_sdk.runtimes.http.metrics import Metrics

_logger = logging.getLogger("flipkd_sdk")

OPEN = frozenset({"/", "/healthz", "/readyz"})
"""Paths that need no key and no place in the queue: they reveal nothing and take no time."""


class Guard:
    """ASGI middleware around the whole service.

    Args:
        app: the service.
        metrics: receives the time of each request.
        routes: known paths; others share one name in the measurements.
        max_queue: requests that may wait or run at once; more are answered 429.
        api_key: required of every path but `OPEN`; None for none.
    """

    def __init__(
        self, app: App, *, metrics: Metrics, routes: Collection[str], max_queue: int, api_key: str | None
    ) -> None:
        self.app = app
        self._metrics = metrics
        self._routes = routes
        self._max_queue = max_queue
        self._key = None if api_key is None else _digest(api_key.encode())
        self._in_progress = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, start, status = scope["path"], time.perf_counter(), 500
        begun = False

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        self._in_progress += 1
        self._metrics.queue.set(self._in_progress)
        try:
            await self._enter(scope, path, receive, answer)
        except Exception as error:
            _logger.exception("a request to %s failed", path)
            if not begun:
                await failure(error)(scope, receive, answer)
        finally:
            self._in_progress -= 1
            self._metrics.queue.set(self._in_progress)
            route = path if path in self._routes else "other"
            self._metrics.answered(route, status, time.perf_counter() - start)

    async def _enter(self, scope: MutableMapping[str, Any], path: str, receive: Receive, send: Send) -> None:
        if path not in OPEN:
            if self._key is not None and not hmac.compare_digest(_presented(scope), self._key):
                message = "a valid key is missing; send the header Authorization: Bearer KEY"
                await refusal(401, message, close=True)(scope, receive, send)
                return
            if self._in_progress > self._max_queue:
                message = f"{self._max_queue} requests are in progress; try again"
                await refusal(429, message, close=True)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _presented(scope: MutableMapping[str, Any]) -> bytes:
    """Return the digest of a request's key."""
    headers = dict(scope["headers"])
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return _digest(key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b""))


def _digest(key: bytes) -> bytes:
    # Digests have one length, so that the comparison reveals not even the length of the key.
    return hashlib.sha256(key).digest()
