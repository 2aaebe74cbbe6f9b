"""`Answer` and `LoopAnswer`: the result of one call for a thread or a coroutine, set by the serving thread alone."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_logger = logging.getLogger("flipkd_sdk")


class ServingThread(threading.Thread):
    """Thread that resolves answers; it must not wait for one."""


class Answer(Future[T]):
    """Future whose result the caller can read, await or cancel, but not set.

    A done-callback that fails is logged: its error can neither end the serving thread nor hold back other callbacks. A
    done-callback cannot wait for another answer, because it runs in the thread that would have to compute it.
    """

    def result(self, timeout: float | None = None) -> T:
        """Return the result, waiting for it at most ``timeout`` seconds."""
        self._refuse_to_block()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error of the call, or None, waiting for it at most ``timeout`` seconds."""
        self._refuse_to_block()
        return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn`` with this future once it is resolved or cancelled."""

        def run(future: Future[T]) -> None:
            try:
                fn(future)
            except BaseException as error:
                # An interrupt of the main thread belongs to its program; concurrent.futures logs an Exception itself.
                if isinstance(error, Exception) or threading.current_thread() is threading.main_thread():
                    raise
                _logger.exception("a done-callback of a micro-batched call raised an error")

        super().add_done_callback(run)

    def set_running_or_notify_cancel(self) -> NoReturn:
        """Refuse the call: only the serving thread starts an answer."""
        raise _not_yours()

    def set_result(self, result: T) -> NoReturn:
        """Refuse the call: only the serving thread sets a result."""
        raise _not_yours()

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Refuse the call: only the serving thread sets an error."""
        raise _not_yours()

    def start(self) -> bool:
        """Mark the answer as being computed; return False if nobody waits for it any more."""
        try:
            return super().set_running_or_notify_cancel()
        except (InvalidStateError, RuntimeError):
            return False

    def resolve(self, result: Any) -> None:  # noqa: ANN401 - a result or an error of any type
        """Set the result, or the error if ``result`` is one, unless there is one already."""
        with contextlib.suppress(InvalidStateError):
            if isinstance(result, BaseException):
                super().set_exception(result)
            else:
                super().set_result(result)

    def _refuse_to_block(self) -> None:
        if not self.done() and isinstance(threading.current_thread(), ServingThread):
            raise RuntimeError("a done-callback cannot wait for another call: it runs in the thread that serves it")


class LoopAnswer:
    """Result of one call for a coroutine, which awaits or cancels ``future``.

    Args:
        loop: event loop of the coroutine.
    """

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def start(self) -> bool:
        """Return False if nobody waits for the answer any more."""
        return not self.future.done()


def resolve_all(results: Iterable[tuple[Answer[Any] | LoopAnswer, Any]]) -> None:
    """Set the results of a run.

    An event loop is woken once for all its answers: waking it for each one would also take the interpreter away from
    the serving thread each time.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for answer, result in results:
        if isinstance(answer, LoopAnswer):
            by_loop.setdefault(answer.loop, []).append((answer.future, result))
        else:
            answer.resolve(result)
    for loop, answered in by_loop.items():
        # A closed loop raises RuntimeError; nobody waits there.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_set_results, answered)


def _set_results(answered: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in answered:
        if future.done():
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def _not_yours() -> InvalidStateError:
    return InvalidStateError("the micro-batcher resolves this future; read it, add a callback or cancel it")
