"""A matching service: concurrent requests share runs of the model, and none is lost when it stops.

    pip install 'flipkd-sdk[cpu,service]'
    python examples/service/app.py --port 8000

FLIPKD_MATCHER names the matcher directory; the default is the one that `make demo` leaves. README.md describes the
requests and their limits.
"""

from __future__ import annotations

import csv
import os
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from limits import BodyLimit, timed_protocol
from pydantic import BaseModel, Field

from flipkd_sdk import AsyncMatcher, FlipKDError, Matcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DIRECTORY = os.environ.get("FLIPKD_MATCHER", "demo/matcher")
FAQ = Path(__file__).parent.parent / "bank_faq" / "questions.csv"
MAX_BODY_BYTES = 256 * 1024
MAX_CHARACTERS = 10_000
MAX_PAIRS = 256
Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]


class Pair(BaseModel):
    """Two texts to compare."""

    a: Text
    b: Text


class Pairs(BaseModel):
    """Several pairs to compare."""

    pairs: Annotated[list[Pair], Field(max_length=MAX_PAIRS)]


class Query(BaseModel):
    """A text to find in the FAQ."""

    text: Text
    top_k: Annotated[int, Field(ge=1, le=100)] = 3


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load everything before the first request, and close it after the last answer."""
    with FAQ.open(encoding="utf-8", newline="") as file:
        questions = [row["text"] for row in csv.DictReader(file)]
    with Matcher.load(DIRECTORY, on_truncate="ignore") as matcher:
        app.state.faq = matcher.candidates(questions)
        async with AsyncMatcher(matcher, max_delay=0.002) as app.state.matcher:
            app.state.ready = True
            yield
            app.state.ready = False


app = FastAPI(title="flipkd matcher", lifespan=lifespan)
app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
app.state.ready = False


@app.post("/score")
async def score(pair: Pair, request: Request) -> dict[str, Any]:
    """Return the match probability of two texts, and whether it reaches the matcher's threshold."""
    matcher = request.app.state.matcher
    probability = await matcher.score(pair.a, pair.b)
    return {"score": probability, "match": probability >= matcher.threshold}


@app.post("/score_pairs")
async def score_pairs(body: Pairs, request: Request) -> list[dict[str, Any]]:
    """Return the same as `score`, for each of several pairs."""
    matcher = request.app.state.matcher
    scores = (await matcher.score_pairs([(pair.a, pair.b) for pair in body.pairs])).tolist()
    return [{"score": probability, "match": probability >= matcher.threshold} for probability in scores]


@app.post("/rank")
async def rank(query: Query, request: Request) -> list[dict[str, Any]]:
    """Return the entries of the FAQ that match a text best."""
    state = request.app.state
    return [asdict(match) for match in await state.matcher.rank(query.text, state.faq, top_k=query.top_k)]


@app.get("/health/live")
async def live() -> dict[str, bool]:
    """Answer as long as the event loop runs."""
    return {"live": True}


@app.get("/health/ready")
async def ready(request: Request, response: Response) -> dict[str, bool]:
    """Answer 200 if requests can be answered: the model is loaded, runs, and is not being closed; else 503."""
    if request.app.state.ready:
        await request.app.state.matcher.score("ready", "ready")
    else:
        response.status_code = 503
    return {"ready": request.app.state.ready}


@app.exception_handler(RequestValidationError)
async def refuse(_request: Request, error: RequestValidationError) -> JSONResponse:
    """Return the errors of a request without its input: half a surrogate pair could not be sent back."""
    return JSONResponse({"detail": [{"loc": found["loc"], "msg": found["msg"]} for found in error.errors()]}, 422)


@app.exception_handler(FlipKDError)
async def explain(_request: Request, error: FlipKDError) -> JSONResponse:
    """Return the message of an error of flipkd_sdk, which is one line that can be shown."""
    return JSONResponse({"detail": str(error)}, status_code=422 if isinstance(error, ValueError) else 503)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
@click.option("--request-timeout", default=10.0, show_default=True, help="Seconds in which a request must arrive.")
@click.option("--concurrency", default=256, show_default=True, help="Connections above it are answered 503.")
def main(host: str, port: int, request_timeout: float, concurrency: int) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer the requests that have begun."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        http=timed_protocol(request_timeout),
        ws="none",
        limit_concurrency=concurrency,
        timeout_graceful_shutdown=30,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
