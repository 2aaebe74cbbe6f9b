"""`Routes`: the handler of each path and method, and the errors of handlers as answers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request

from flipkd_sdk.errors import FlipKDError
from flipkd_sdk.runtimes.http.replies import RequestError, failure, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from contextlib import AbstractAsyncContextManager

    from starlette.responses import Response

    from flipkd_sdk.runtimes.http.limits import Receive, Send

    Handler = Callable[[Request], Awaitable[Response]]

_logger = logging.getLogger("flipkd_sdk")


class Routes:
    """ASGI application with fixed paths: a lookup, where Starlette tries one pattern after another.

    Args:
        posts: handlers of POST by path.
        gets: handlers of GET and HEAD by path.
        lifespan: opened with the server and closed with it, as Starlette takes it.
    """

    def __init__(
        self,
        posts: Mapping[str, Handler],
        gets: Mapping[str, Handler],
        lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
    ) -> None:
        self.paths = posts.keys() | gets.keys()
        self._handlers = {"POST": posts, "GET": gets, "HEAD": gets}
        self._hint = "; /openapi.json lists all" if "/openapi.json" in gets else ""
        self._other = Starlette(lifespan=lifespan)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        path = scope["path"]
        handler = self._handlers.get(scope["method"], {}).get(path)
        if handler is not None:
            response = await _answer(handler, Request(scope, receive))
        elif path in self.paths:
            response = refusal(405, f"this path takes another method{self._hint}")
        else:
            response = refusal(404, f"no such path{self._hint}")
        await response(scope, receive, send)


async def _answer(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except (RequestError, FlipKDError) as error:
        return failure(error)
    except Exception as error:
        _logger.exception("a request to %s failed", request.url.path)
        return failure(error)
