"""`AsyncMatcher`: a `Matcher` for asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from flipkd_sdk.errors import MatcherClosedError
from flipkd_sdk.runtimes.serving.microbatch import MicroBatcher

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.matcher import Matcher
    from flipkd_sdk.runtimes.search.candidates import CandidateSet, Match


class AsyncMatcher:
    """The methods of a `Matcher` as coroutines, which never block the event loop.

    Concurrent calls of `score`, `is_match`, `encode` and `rank` are joined into one run by a `MicroBatcher`; the large
    calls, `score_pairs` and `score_matrix`, each take a thread. A coroutine that is cancelled leaves the queue; once it
    runs, only its result is dropped.

    Args:
        matcher: the matcher; it stays the caller's to close.
        max_delay: seconds that a call may wait for others while the model is free.
        max_batch_size: most calls joined into one run.

    Raises:
        ConfigError: an option has a value that it cannot have.

    Example:
        >>> async with AsyncMatcher(matcher) as async_matcher:
        ...     await async_matcher.score("How do I reset my PIN?", "I forgot my PIN, what now?")
        0.93
    """

    def __init__(self, matcher: Matcher, *, max_delay: float = 0.002, max_batch_size: int = 64) -> None:
        self._matcher = matcher
        self._batcher = MicroBatcher(matcher, max_delay=max_delay, max_batch_size=max_batch_size)
        self._closed = False

    async def score(self, a: str, b: str) -> float:
        """What `Matcher.score` gives. Raises as it does, and `MatcherClosedError` also after `aclose`."""
        return await asyncio.wrap_future(self._batcher.submit_pair(a, b))

    async def is_match(self, a: str, b: str) -> bool:
        """Whether the score of two texts reaches the matcher's threshold. Raises as `score` does."""
        return await self.score(a, b) >= self._matcher.threshold

    async def encode(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """What `Matcher.encode` gives for a few texts, shape (n, d). Raises as it does."""
        return await asyncio.wrap_future(self._batcher.submit_texts(texts))

    async def rank(
        self, query: str, candidates: CandidateSet, *, top_k: int | None = 10, score_cutoff: float | None = None
    ) -> list[Match]:
        """What `CandidateSet.rank` gives. Raises as it does."""
        vectors = await asyncio.wrap_future(self._batcher.submit_query(query))
        return await asyncio.to_thread(
            lambda: next(candidates.rank_vectors(vectors, top_k=top_k, score_cutoff=score_cutoff))
        )

    async def score_pairs(
        self, pairs: Iterable[tuple[str, str]], *, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """What `Matcher.score_pairs` gives, shape (n,). Raises as it does."""
        return await asyncio.to_thread(self._open_matcher().score_pairs, pairs, batch_size=batch_size)

    async def score_matrix(self, a_texts: Iterable[str], b_texts: Iterable[str]) -> NDArray[np.float32]:
        """What `Matcher.score_matrix` gives, shape (n, m). Raises as it does."""
        return await asyncio.to_thread(self._open_matcher().score_matrix, a_texts, b_texts)

    async def aclose(self) -> None:
        """Answer the calls that were handed in, and end. Closing twice is harmless."""
        self._closed = True
        await asyncio.to_thread(self._batcher.close)

    def _open_matcher(self) -> Matcher:
        if self._closed:
            raise MatcherClosedError("this AsyncMatcher was closed; make another one")
        return self._matcher

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
