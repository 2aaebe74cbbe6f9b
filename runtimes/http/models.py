"""`Models`: the matcher that a server uses, replaced without losing a request."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from flipkd_sdk.errors import CandidateSetError, FlipKDError
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx import malloc_trim
from flipkd_sdk.runtimes.search.candidates import CandidateSet
from flipkd_sdk.runtimes.serving.async_matcher import AsyncMatcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_BACKGROUND = 500
"""Candidates whose mean vector is the background of explanations."""


@dataclass(eq=False)
class Loaded:
    """A loaded matcher with its micro-batcher."""

    matcher: Matcher
    calls: AsyncMatcher
    candidates: CandidateSet | None
    background: NDArray[np.float32] | None
    users: int = 0
    """Requests that are using it."""
    retired: bool = False

    async def close(self) -> None:
        """Release the matcher after its last call."""
        await self.calls.aclose()
        self.matcher.close()
        # Memory of the old model goes back to the system, so that reloads do not add up.
        await asyncio.to_thread(malloc_trim.trim)


@dataclass(eq=False)
class Models:
    """The current matcher of a server; `open` loads the first one.

    A replacement is loaded and tried beside the old matcher. Requests that have begun finish with the old one.
    """

    directory: Path
    candidates: Path | None
    options: Mapping[str, Any]
    """Options of `Matcher.load`."""
    max_delay: float
    on_batch: Callable[[int], object]
    """Called with the number of calls of each run."""
    reload_error: str | None = None
    """Reason why the last reload failed; None if it did not."""
    _current: Loaded | None = None
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)
    _truncated_before: int = 0
    _loader: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))
    """One thread, because each thread has a heap of its own in which a model leaves gaps."""

    def open(self) -> None:
        """Load the matcher and the candidates.

        Raises:
            FlipKDError: they cannot be used.
            OSError: a file cannot be read.
        """
        malloc_trim.map_large_blocks()
        self._current = self._loader.submit(self._load).result()

    @property
    def truncated_texts(self) -> int:
        """Return the number of texts that were cut since the start."""
        current = self._current
        return self._truncated_before + (0 if current is None else current.matcher.truncated_texts)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Loaded]:
        """Yield the current matcher, which stays open until the block ends."""
        loaded = self._current
        if loaded is None:
            raise FlipKDError("the server is stopping")
        loaded.users += 1
        try:
            yield loaded
        finally:
            loaded.users -= 1
            self._close_if_unused(loaded)

    async def reload(self) -> None:
        """Load the directory again and replace the matcher; the old one stays if that fails.

        Raises:
            FlipKDError: the new one cannot be used.
            OSError: a file cannot be read.
        """
        async with self._reloading:
            try:
                loaded = await asyncio.get_running_loop().run_in_executor(self._loader, self._load)
            except (FlipKDError, OSError) as error:
                self.reload_error = " ".join(str(error).split())
                raise
            old, self._current, self.reload_error = self._current, loaded, None
            if old is not None:
                self._truncated_before += old.matcher.truncated_texts
                old.retired = True
                self._close_if_unused(old)

    async def close(self) -> None:
        """Release the matcher after its last request."""
        old, self._current = self._current, None
        if old is not None:
            await old.close()
        await asyncio.gather(*self._closing)
        self._loader.shutdown()

    def _close_if_unused(self, loaded: Loaded) -> None:
        if loaded.retired and not loaded.users:
            task = asyncio.get_running_loop().create_task(loaded.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _load(self) -> Loaded:
        matcher = Matcher.load(self.directory, **self.options)
        try:
            # A graph that opens but does not run must not replace one that does.
            matcher.score("ready", "steady")
            candidates = None if self.candidates is None else load_candidates(self.candidates, matcher)
        except BaseException:
            matcher.close()
            raise
        background = candidates.vectors[:_BACKGROUND].mean(axis=0) if candidates is not None else None
        calls = AsyncMatcher(matcher, max_delay=self.max_delay, on_batch=self.on_batch)
        return Loaded(matcher, calls, candidates, background)


def load_candidates(path: Path, matcher: Matcher) -> CandidateSet:
    """Load a saved `CandidateSet`, or encode the lines of a text file.

    Raises:
        CandidateSetError: the set is malformed or another matcher's, or the file has no line of UTF-8.
    """
    if path.is_dir():
        return CandidateSet.load(path, matcher)
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise CandidateSetError(f"{path}: not UTF-8; name a text file with one candidate a line") from None
    if not lines:
        raise CandidateSetError(f"{path}: no candidate in it; name a text file with one candidate a line")
    return matcher.candidates(lines)
