"""`AsyncMatcher`: a `Matcher` for asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from flipkd_sdk.errors import MatcherClosedError
from flipkd_sdk.runtimes.encoding.inputs import distinct_of_pair, distinct_query, distinct_texts, several
from flipkd_sdk.runtimes.serving.answer import LoopAnswer
from flipkd_sdk.runtimes.serving.microbatch import MicroBatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts
    from flipkd_sdk.runtimes.matcher import Matcher
    from flipkd_sdk.runtimes.search.candidates import CandidateSet
    from flipkd_sdk.runtimes.search.match import Match


class AsyncMatcher:
    """The methods of a `Matcher` as coroutines, which never block the event loop.

    A `MicroBatcher` joins concurrent calls of `score`, `is_match`, `encode` and `rank` into one run. The large calls,
    `score_pairs`, `score_matrix` and `rank` over a list, each take a thread. Cancelling a coroutine removes its call
    from the queue; if the call runs already, its result is dropped.

    Args:
        matcher: the matcher, which the caller closes.
        max_delay: longest time in seconds that a call waits for others while the model is free.
        max_batch_size: largest number of calls in one run.
        on_batch: called in the serving thread with the number of calls of each run, to measure it.

    Raises:
        ConfigError: an argument has an invalid value.

    Example:
        >>> async with AsyncMatcher(matcher) as async_matcher:
        ...     await async_matcher.score("How do I reset my PIN?", "I forgot my PIN, what now?")
        0.93
    """

    def __init__(
        self,
        matcher: Matcher,
        *,
        max_delay: float = 0.002,
        max_batch_size: int = 64,
        on_batch: Callable[[int], object] | None = None,
    ) -> None:
        self._matcher = matcher
        self._batcher = MicroBatcher(matcher, max_delay=max_delay, max_batch_size=max_batch_size, on_batch=on_batch)
        self._closed = False

    @property
    def threshold(self) -> float:
        """Return the score from which on a pair is a match."""
        return self._matcher.threshold

    async def score(self, a: str, b: str) -> float:
        """Return the result of `Matcher.score`; raise its errors, and `MatcherClosedError` after `aclose`."""
        return float(await self._call(distinct_of_pair(a, b), is_pair=True))

    async def is_match(self, a: str, b: str) -> bool:
        """Return True if the score of two texts is at least `threshold`; raise the errors of `score`."""
        return await self.score(a, b) >= self.threshold

    async def encode(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Return the result of `Matcher.encode` for a few texts, shape (n, d); raise its errors."""
        distinct = distinct_texts(several(texts, "texts"))
        vectors: NDArray[np.float32] = await self._call(distinct, is_pair=False)
        return vectors

    async def rank(
        self,
        query: str,
        candidates: CandidateSet | Iterable[str],
        *,
        top_k: int | None = 10,
        score_cutoff: float | None = None,
    ) -> list[Match]:
        """Return the result of `Matcher.rank`; raise its errors.

        A set from `candidates` is faster than a list, whose texts are encoded in every call.
        """
        # Whoever passes a set has imported its class already.
        from flipkd_sdk.runtimes.search.candidates import CandidateSet

        if not isinstance(candidates, CandidateSet):
            matcher = self._open_matcher()
            return await asyncio.to_thread(matcher.rank, query, candidates, top_k=top_k, score_cutoff=score_cutoff)
        vectors = await self._call(distinct_query(query), is_pair=False)
        return await asyncio.to_thread(
            lambda: next(candidates.rank_vectors(vectors, texts=[query], top_k=top_k, score_cutoff=score_cutoff))
        )

    async def candidates(self, texts: Iterable[str]) -> CandidateSet:
        """Return the result of `Matcher.candidates`; raise its errors."""
        return await asyncio.to_thread(self._open_matcher().candidates, texts)

    async def score_pairs(
        self, pairs: Iterable[tuple[str, str]], *, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Return the result of `Matcher.score_pairs`, shape (n,); raise its errors."""
        return await asyncio.to_thread(self._open_matcher().score_pairs, pairs, batch_size=batch_size)

    async def score_matrix(self, a_texts: Iterable[str], b_texts: Iterable[str]) -> NDArray[np.float32]:
        """Return the result of `Matcher.score_matrix`, shape (n, m); raise its errors."""
        return await asyncio.to_thread(self._open_matcher().score_matrix, a_texts, b_texts)

    async def aclose(self) -> None:
        """Answer the queued calls and end. Closing twice is harmless."""
        self._closed = True
        await asyncio.to_thread(self._batcher.close)

    async def _call(self, distinct: DistinctTexts, *, is_pair: bool) -> Any:  # noqa: ANN401 - as the flag says
        answer = LoopAnswer(asyncio.get_running_loop())
        self._batcher.put(distinct, answer, is_pair=is_pair)
        return await answer.future

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
