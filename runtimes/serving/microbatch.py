"""`MicroBatcher`: joins single calls from many threads into one run of the model.

Texts that run together cost less than one by one, so a call is worth a short wait for others. A run starts as soon as
all recent callers are back: those whose calls the last run answered, and those who called in the meantime. A caller who
does not come back is waited for at most ``max_delay``. So a lone caller never waits, and steady callers wait for each
other instead of the clock.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flipkd_sdk.errors import ConfigError, MatcherClosedError
from flipkd_sdk.runtimes.encoding.inputs import (
    DistinctTexts,
    distinct_of_pair,
    distinct_query,
    distinct_texts,
    several,
)
from flipkd_sdk.runtimes.options import check_integer, check_number, shown
from flipkd_sdk.runtimes.serving.answer import Answer, ServingThread, resolve_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.matcher import Matcher
    from flipkd_sdk.runtimes.search.candidates import CandidateSet
    from flipkd_sdk.runtimes.search.match import Match
    from flipkd_sdk.runtimes.serving.answer import LoopAnswer


@dataclass(frozen=True, slots=True)
class _Call:
    """Texts of one caller."""

    distinct: DistinctTexts
    is_pair: bool
    """True if the score of two texts is wanted, False if the vectors of the texts are."""
    answer: Answer[Any] | LoopAnswer


class MicroBatcher:
    """Joins concurrent single calls to a `Matcher` into one run; for services with one thread per request.

    Scores are those of the matcher. Each caller gets its own errors. A call can be cancelled through its future until
    it runs, but only the serving thread can resolve the future. Done-callbacks run in that thread: they must not wait
    for another call, and their errors are logged. After a fork the child starts with an empty queue.

    Args:
        matcher: the matcher, which the caller closes.
        max_delay: longest time in seconds that a call waits for others while the model is free.
        max_batch_size: largest number of calls in one run.
        on_batch: called in the serving thread with the number of calls of each run, to measure it.

    Raises:
        ConfigError: an argument has an invalid value.

    Example:
        >>> with MicroBatcher(matcher) as batcher:
        ...     batcher.score("How do I reset my PIN?", "I forgot my PIN, what now?")  # from any thread
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
        if not hasattr(matcher, "scorer"):
            raise ConfigError(f"matcher must be a Matcher, as Matcher.load returns; it is {shown(matcher)}")
        check_number("max_delay", max_delay, least=0)
        check_integer("max_batch_size", max_batch_size)
        max_delay = min(max_delay, threading.TIMEOUT_MAX)
        self._matcher = matcher
        self._make_worker = partial(_Worker, partial(_run_calls, matcher, on_batch), max_delay, max_batch_size)
        self._restart()
        _batchers.add(self)

    @property
    def threshold(self) -> float:
        """Return the score from which on a pair is a match."""
        return self._matcher.threshold

    def score(self, a: str, b: str) -> float:
        """Return the result of `Matcher.score`; raise its errors, and `MatcherClosedError` after `close`."""
        return self.submit_pair(a, b).result()

    def is_match(self, a: str, b: str) -> bool:
        """Return True if the score of two texts is at least `threshold`; raise the errors of `score`."""
        return self.score(a, b) >= self.threshold

    def rank(
        self,
        query: str,
        candidates: CandidateSet | Iterable[str],
        *,
        top_k: int | None = 10,
        score_cutoff: float | None = None,
    ) -> list[Match]:
        """Return the result of `Matcher.rank`; raise its errors, and `MatcherClosedError` after `close`.

        The query is encoded together with other calls if ``candidates`` is a `CandidateSet`. Other candidates are
        encoded in a run of their own.
        """
        # Whoever passes a set has imported its class already.
        from flipkd_sdk.runtimes.search.candidates import CandidateSet

        if not isinstance(candidates, CandidateSet):
            self._worker.require_open()
            return self._matcher.rank(query, candidates, top_k=top_k, score_cutoff=score_cutoff)
        vectors = self.submit_query(query).result()
        (found,) = candidates.rank_vectors(vectors, texts=[query], top_k=top_k, score_cutoff=score_cutoff)
        return found

    def submit_pair(self, a: str, b: str) -> Future[float]:
        """Queue a pair and return a future of its score.

        Raises:
            InvalidTextError: a text is not a str. Other errors come with the result.
            MatcherClosedError: after `close`.
        """
        return self._submit(distinct_of_pair(a, b), is_pair=True)

    def submit_texts(self, texts: Iterable[str]) -> Future[NDArray[np.float32]]:
        """Queue a few texts and return a future of their vectors, as `Matcher.encode` returns them, shape (n, d).

        Raises:
            InvalidTextError: an element is not a str. Other errors come with the result.
            MatcherClosedError: after `close`.
        """
        return self._submit(distinct_texts(several(texts, "texts")), is_pair=False)

    def submit_query(self, query: str) -> Future[NDArray[np.float32]]:
        """Queue a query and return a future of its vector, shape (1, d), as `CandidateSet.rank_vectors` takes it.

        Raises:
            InvalidTextError: the query is not a str. Other errors come with the result.
            MatcherClosedError: after `close`.
        """
        return self._submit(distinct_query(query), is_pair=False)

    def put(self, distinct: DistinctTexts, answer: Answer[Any] | LoopAnswer, *, is_pair: bool) -> None:
        """Queue a call; its answer gets the score of a pair, or the vectors of texts.

        Raises:
            MatcherClosedError: after `close`.
        """
        self._worker.put(_Call(distinct, is_pair, answer))

    def close(self) -> None:
        """Answer the queued calls and end. Closing twice is harmless."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _restart(self) -> None:
        self._worker = self._make_worker()
        # Runs on close, when the object is collected, and before the interpreter ends.
        self._finalizer = weakref.finalize(self, self._worker.close)

    def _restart_after_fork(self) -> None:
        # In the child the queue may be locked for ever. A closed one stays closed.
        if self._finalizer.detach() is not None:
            self._restart()

    def _submit(self, distinct: DistinctTexts, *, is_pair: bool) -> Future[Any]:
        answer: Answer[Any] = Answer()
        self.put(distinct, answer, is_pair=is_pair)
        return answer


class _Worker:
    """Queue of calls, and the thread that serves it; the first call starts the thread."""

    def __init__(self, run: Callable[[Sequence[_Call]], list[Any]], max_delay: float, max_batch_size: int) -> None:
        self._run = run
        self._max_delay = max_delay
        self._max_batch_size = max_batch_size
        self._changed = threading.Condition()
        self._waiting: list[_Call] = []
        self._expected = 1
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, call: _Call) -> None:
        with self._changed:
            self.require_open()
            if self._thread is None:
                thread = ServingThread(target=self._work, name="flipkd-microbatch", daemon=True)
                thread.start()
                # Only once it runs: if no thread can be started now, the next call tries again.
                self._thread = thread
            self._waiting.append(call)
            # Waking the thread for every call would cost more than it gains.
            if len(self._waiting) == 1 or len(self._waiting) >= self._wanted:
                self._changed.notify()

    def require_open(self) -> None:
        if self._closed:
            raise MatcherClosedError("this micro-batcher was closed; make another one")

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    @property
    def _wanted(self) -> int:
        return min(self._expected, self._max_batch_size)

    def _work(self) -> None:
        while self._serve():
            pass  # Between runs no local name may keep texts and vectors alive.

    def _serve(self) -> bool:
        """Make one run; return False once the queue is closed and empty. Never raise: every call would hang."""
        calls: list[_Call] = []
        try:
            calls = self._take()
            self._answer([call for call in calls if call.answer.start()])
            return bool(calls)
        except BaseException as error:  # noqa: BLE001 - callers wait for it in other threads
            resolve_all((call.answer, error) for call in calls or self._take_all())
            return True

    def _answer(self, calls: Sequence[_Call]) -> None:
        results = self._run(calls) if calls else []
        with self._changed:
            # Counted before the first answer: a caller who comes back at once would count twice.
            self._expected = max(1, len(calls) + len(self._waiting))
        resolve_all(zip((call.answer for call in calls), results, strict=True))

    def _take(self) -> list[_Call]:
        """Return the calls of the next run; none once the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            until = time.monotonic() + self._max_delay
            while len(self._waiting) < self._wanted and not self._closed and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            taken = self._waiting[: self._max_batch_size]
            del self._waiting[: self._max_batch_size]
            return taken

    def _take_all(self) -> list[_Call]:
        with self._changed:
            taken, self._waiting = self._waiting, []
            return taken


def _run_calls(matcher: Matcher, on_batch: Callable[[int], object] | None, calls: Sequence[_Call]) -> list[Any]:
    if on_batch is not None:
        on_batch(len(calls))
    return _encode_calls(matcher, calls)


def _encode_calls(matcher: Matcher, calls: Sequence[_Call]) -> list[Any]:
    """Return the result of each call, or the error that it caused."""
    try:
        # A single call stays as it came, so that messages name its texts as the caller does.
        distinct = calls[0].distinct if len(calls) == 1 else _joined(calls)
        return _results(matcher, calls, distinct)
    except BaseException as error:  # noqa: BLE001 - callers wait for it in other threads
        if len(calls) == 1:
            return [error]
        # One call fails the whole run; alone, each gets its own result or error.
        return [_encode_calls(matcher, [call])[0] for call in calls]


def _joined(calls: Sequence[_Call]) -> DistinctTexts:
    """Return the texts of all calls, in turn."""
    return distinct_texts(call.distinct.texts[index] for call in calls for index in call.distinct.index)


def _results(matcher: Matcher, calls: Sequence[_Call], distinct: DistinctTexts) -> list[Any]:
    encoded = matcher.scorer.encode_pairs(distinct)
    indices = np.split(distinct.index, np.cumsum([len(call.distinct.index) for call in calls])[:-1])
    # All pairs at once: for one pair, calling numpy takes longer than computing.
    pairs = np.array([own for call, own in zip(calls, indices, strict=True) if call.is_pair], dtype=np.int64)
    scores = iter(matcher.scorer.pair_scores(distinct.texts, encoded, *pairs.reshape(-1, 2).T).tolist())
    return [next(scores) if call.is_pair else encoded.vectors[own] for call, own in zip(calls, indices, strict=True)]


_batchers: weakref.WeakSet[MicroBatcher] = weakref.WeakSet()


def _restart_all() -> None:
    for batcher in list(_batchers):
        batcher._restart_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_all)
