"""A matching service: concurrent requests share runs of the model, and none is lost when it stops.

    pip install fastapi uvicorn
    uvicorn --app-dir examples/service app:app --limit-concurrency 512 --timeout-graceful-shutdown 30

FLIPKD_MATCHER names the matcher directory; without it, the one of `make demo` is taken.
"""

from __future__ import annotations

import csv
import os
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from flipkd_sdk import AsyncMatcher, FlipKDError, Matcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DIRECTORY = os.environ.get("FLIPKD_MATCHER", "demo/matcher")
FAQ = Path(__file__).parent.parent / "bank_faq" / "questions.csv"
Text = Annotated[str, Field(max_length=10_000)]


class Pair(BaseModel):
    """Two texts to compare."""

    a: Text
    b: Text


class Query(BaseModel):
    """A text to find in the FAQ."""

    text: Text
    top_k: Annotated[int, Field(ge=1, le=100)] = 3


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Everything is loaded before the first request and closed after the last one was answered."""
    with FAQ.open(encoding="utf-8", newline="") as file:
        questions = [row["text"] for row in csv.DictReader(file)]
    with Matcher.load(DIRECTORY, on_truncate="ignore") as matcher:
        app.state.faq = matcher.candidates(questions)
        async with AsyncMatcher(matcher, max_delay=0.002) as app.state.matcher:
            app.state.threshold = matcher.threshold
            app.state.ready = True
            yield
            app.state.ready = False


app = FastAPI(title="flipkd matcher", lifespan=lifespan)
app.state.ready = False


@app.post("/score")
async def score(pair: Pair, request: Request) -> dict[str, Any]:
    """How likely two texts mean the same, and whether that reaches the matcher's threshold."""
    probability = await request.app.state.matcher.score(pair.a, pair.b)
    return {"score": probability, "match": probability >= request.app.state.threshold}


@app.post("/rank")
async def rank(query: Query, request: Request) -> list[dict[str, Any]]:
    """The entries of the FAQ that match a text best."""
    state = request.app.state
    return [asdict(match) for match in await state.matcher.rank(query.text, state.faq, top_k=query.top_k)]


@app.get("/health/live")
async def live() -> dict[str, bool]:
    """Answers as long as the event loop does."""
    return {"live": True}


@app.get("/health/ready")
async def ready(request: Request, response: Response) -> dict[str, bool]:
    """Whether requests can be answered: the model is loaded, runs, and is not being closed."""
    if request.app.state.ready:
        await request.app.state.matcher.score("ready", "ready")
    else:
        response.status_code = 503
    return {"ready": request.app.state.ready}


@app.exception_handler(RequestValidationError)
async def refuse(_request: Request, error: RequestValidationError) -> JSONResponse:
    """What is wrong with a request, without the input: half a surrogate pair could not be sent back."""
    return JSONResponse({"detail": [{"loc": found["loc"], "msg": found["msg"]} for found in error.errors()]}, 422)


@app.exception_handler(FlipKDError)
async def explain(_request: Request, error: FlipKDError) -> JSONResponse:
    """Messages of flipkd_sdk say what is wrong in one line and can be shown."""
    return JSONResponse({"detail": str(error)}, status_code=422 if isinstance(error, ValueError) else 503)
