"""The labelling page: a server on loopback that answers only who has the token."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from flipkd_sdk.cli.labelling.page import label_page
from flipkd_sdk.cli.labelling.session import ANSWERS
from flipkd_sdk.runtimes.http.bodies import read_body
from flipkd_sdk.runtimes.http.limits import BodyLimit
from flipkd_sdk.runtimes.http.replies import SECURITY_HEADERS, Json, refusal
from flipkd_sdk.runtimes.http.routes import Routes

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.requests import Request

    from flipkd_sdk.cli.labelling.session import Session
    from flipkd_sdk.runtimes.http.limits import App, Message, Receive, Send

_MAX_BODY = 4096
_ANSWER = {
    "type": "object",
    "properties": {"row": {"type": "integer", "minimum": 0, "maximum": 1 << 31}, "answer": {"enum": list(ANSWERS)}},
    "required": ["row", "answer"],
    "additionalProperties": False,
}
_NAMES = ("127.0.0.1", "localhost")


class LabelServer:
    """Handlers of the labelling page.

    Args:
        session: of the person.
        title: of the page.
    """

    def __init__(self, session: Session, title: str) -> None:
        self.token = secrets.token_urlsafe(24)
        self._session = session
        self._page = label_page(title)

    def application(self) -> App:
        """Return the ASGI application."""
        routes = Routes({"/answer": self._answer, "/undo": self._undo}, {"/": self._show, "/pair": self._pair})
        inner = BodyLimit(routes, max_bytes=_MAX_BODY, max_total=_MAX_BODY * 64)
        return _Private(inner, self.token)

    async def _show(self, request: Request) -> Response:
        return HTMLResponse(self._page)

    async def _pair(self, request: Request) -> Response:
        return Json(await run_in_threadpool(self._session.state))

    async def _answer(self, request: Request) -> Response:
        body: Any = await read_body(request, _ANSWER)
        if not await run_in_threadpool(self._session.answer, body["row"], body["answer"]):
            return refusal(409, "another pair is on the screen, perhaps in a second window; this one was not labelled")
        return await self._pair(request)

    async def _undo(self, request: Request) -> Response:
        if not await run_in_threadpool(self._session.undo):
            return refusal(409, "no answer of this session is left to undo")
        return await self._pair(request)


class _Private:
    """ASGI middleware that refuses requests without the token, and those of pages under another name.

    Another site can let its own name point to this machine; the browser would then take both for one site.
    """

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        headers = dict(scope["headers"])
        named = headers.get(b"host", b"").decode("latin-1").rpartition(":")[0]
        given = headers.get(b"x-token", b"") or _query_token(scope["query_string"])
        if named not in _NAMES:
            await refusal(421, "open the address that the command has printed", close=True)(scope, receive, answer)
        elif not hmac.compare_digest(given, self._token):
            message = "the token is missing or wrong; open the address that the command has printed"
            await refusal(401, message, close=True)(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)


def _query_token(query: bytes) -> bytes:
    return next((part[6:] for part in query.split(b"&") if part.startswith(b"token=")), b"")
