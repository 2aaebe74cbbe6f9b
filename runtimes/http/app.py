"""The service as an ASGI application."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from flipkd_sdk.errors import FlipKDError
from flipkd_sdk.runtimes.http.bodies import read_body, schemas
from flipkd_sdk.runtimes.http.guard import Guard
from flipkd_sdk.runtimes.http.limits import BodyLimit
from flipkd_sdk.runtimes.http.metrics import CONTENT_TYPE, Metrics
from flipkd_sdk.runtimes.http.models import Models
from flipkd_sdk.runtimes.http.openapi import openapi
from flipkd_sdk.runtimes.http.page import try_page
from flipkd_sdk.runtimes.http.replies import Json, RequestError
from flipkd_sdk.runtimes.http.routes import Routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping
    from pathlib import Path

    from starlette.applications import Starlette
    from starlette.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """Options of the service."""

    directory: Path
    """The matcher directory."""
    candidates: Path | None = None
    """A saved `CandidateSet`, or a text file with one candidate a line."""
    load: Mapping[str, Any]
    """Options of `Matcher.load`."""
    api_key: str | None = None
    max_body: int = 1 << 20
    """Most bytes of a body."""
    max_bodies: int = 64 << 20
    """Most bytes of all bodies that are arriving."""
    max_pairs: int = 1000
    """Most pairs of a request; twice as many texts."""
    max_characters: int = 20_000
    """Most characters of a text."""
    max_queue: int = 256
    """Most requests that wait or run."""
    max_delay: float = 0.002
    """Longest time in seconds that a call waits for others to share a run."""


class Service:
    """Handlers of the service.

    Args:
        options: of the service.

    Raises:
        FlipKDError: the matcher or the candidates cannot be used.
        OSError: a file cannot be read.
    """

    def __init__(self, options: ServiceOptions) -> None:
        self.options = options
        self.metrics = Metrics(lambda: self.models.truncated_texts)
        self.models = Models(
            options.directory, options.candidates, options.load, options.max_delay, self.metrics.batch.observe
        )
        self._schemas = schemas(options.max_pairs, options.max_characters)
        self._tasks: set[asyncio.Task[None]] = set()
        self._warmed = False
        self._page = try_page(options.directory.name, ranks=options.candidates is not None)
        self.models.open()

    def application(self) -> Guard:
        """Return the ASGI application."""
        posts = {
            "/score": self.score,
            "/pairs": self.pairs,
            "/rank": self.rank,
            "/encode": self.encode,
            "/explain": self.explain,
            "/v1/embeddings": self.embeddings,
            "/reload": self.reload,
        }
        gets = {
            "/": self.page,
            "/healthz": self.healthz,
            "/readyz": self.readyz,
            "/metrics": self.metrics_page,
            "/openapi.json": self.document,
        }
        routes = Routes(posts, gets, self._lifespan)
        options = self.options
        limited = BodyLimit(routes, max_bytes=options.max_body, max_total=options.max_bodies)
        return Guard(
            limited,
            metrics=self.metrics,
            routes=routes.paths,
            max_queue=options.max_queue,
            api_key=options.api_key,
        )

    async def score(self, request: Request) -> Response:
        """Score two texts."""
        body = await self._body(request)
        async with self.models.borrow() as loaded:
            score = await loaded.calls.score(body["a"], body["b"])
            threshold = loaded.matcher.threshold
        self.metrics.scored([score])
        return Json(_decision(score, threshold))

    async def pairs(self, request: Request) -> Response:
        """Score several pairs."""
        body = await self._body(request)
        async with self.models.borrow() as loaded:
            scores = await loaded.calls.score_pairs([(pair["a"], pair["b"]) for pair in body["pairs"]])
            threshold = loaded.matcher.threshold
        values = scores.tolist()
        self.metrics.scored(values)
        return Json({"results": [_decision(score, threshold) for score in values]})

    async def rank(self, request: Request) -> Response:
        """Find the candidates that match a text best."""
        body = await self._body(request)
        async with self.models.borrow() as loaded:
            if loaded.candidates is None:
                raise RequestError(404, "no candidates are loaded; start the server with --candidates")
            found = await loaded.calls.rank(
                body["query"],
                loaded.candidates,
                top_k=body.get("top_k", 10),
                score_cutoff=body.get("score_cutoff"),
            )
        return Json({"matches": [asdict(match) for match in found]})

    async def encode(self, request: Request) -> Response:
        """Return the vectors of texts."""
        texts = (await self._body(request))["texts"]
        async with self.models.borrow() as loaded:
            vectors = await loaded.calls.encode(texts)
            identity = loaded.matcher.identity
        return Json({"vectors": await run_in_threadpool(vectors.tolist), "identity": identity})

    async def embeddings(self, request: Request) -> Response:
        """Return the vectors of texts as OpenAI's API does."""
        body = await self._body(request)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        async with self.models.borrow() as loaded:
            dimension = loaded.matcher.dimension
            if body.get("dimensions", dimension) != dimension:
                raise RequestError(422, f"body.dimensions must be {dimension}, the dimension of this matcher")
            vectors = await loaded.calls.encode(texts)
        binary = body.get("encoding_format") == "base64"

        def data() -> list[dict[str, Any]]:
            rows = (
                [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
                if binary
                else vectors.tolist()
            )
            return [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]

        name = self.options.directory.name
        return Json({"object": "list", "data": await run_in_threadpool(data), "model": name})

    async def explain(self, request: Request) -> Response:
        """Return the contributions of words to the score of two texts."""
        body = await self._body(request)
        async with self.models.borrow() as loaded:
            found = await run_in_threadpool(loaded.matcher.explain, body["a"], body["b"], background=loaded.background)
        html = await run_in_threadpool(found.to_html, styled=False)
        return Json({**found.to_dict(), "html": html})

    async def page(self, request: Request) -> Response:
        """Return the page to try pairs on, and open the session of explanations while it is read."""
        # With a key, whoever has none must not make the server work.
        if self.options.api_key is None and not self._warmed:
            self._warmed = True
            self._in_background(self._warm())
        return HTMLResponse(self._page)

    async def healthz(self, request: Request) -> Response:
        """Answer as long as the event loop runs."""
        return Json({"alive": True})

    async def readyz(self, request: Request) -> Response:
        """Answer 200 if the model runs, with the error of the last reload if that has failed."""
        async with self.models.borrow() as loaded:
            await loaded.calls.score("ready", "steady")
        return Json({"ready": True, "reload_error": self.models.reload_error})

    async def metrics_page(self, request: Request) -> Response:
        """Return the measurements."""
        return Response(self.metrics.page(), headers={"content-type": CONTENT_TYPE})

    async def document(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        return Json(openapi(self._schemas, with_key=self.options.api_key is not None))

    async def reload(self, request: Request) -> Response:
        """Load the matcher directory again."""
        if self.options.api_key is None:
            raise RequestError(403, "a reload over HTTP needs a server with an API key; send SIGHUP to the process")
        await self._reload()
        return Json({"reloaded": True})

    async def _reload(self) -> None:
        try:
            await self.models.reload()
        except BaseException:
            self.metrics.reloads.labels("failed").inc()
            raise
        self.metrics.reloads.labels("done").inc()

    async def _reload_quietly(self) -> None:
        # The answer of /readyz has the error.
        with contextlib.suppress(FlipKDError, OSError):
            await self._reload()

    def _on_hangup(self) -> None:
        self._in_background(self._reload_quietly())

    async def _warm(self) -> None:
        # A matcher that cannot explain says so when it is asked.
        with contextlib.suppress(FlipKDError, OSError):
            async with self.models.borrow() as loaded:
                await run_in_threadpool(loaded.matcher.explain, "ready", "steady")

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _body(self, request: Request) -> Any:  # noqa: ANN401 - the schema decides
        return await read_body(request, self._schemas[request.url.path])

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        # Only the main thread receives signals, and Windows has no SIGHUP.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError, AttributeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            yield
        finally:
            await self.models.close()


def _decision(score: float, threshold: float) -> dict[str, Any]:
    return {"score": score, "match": score >= threshold}
