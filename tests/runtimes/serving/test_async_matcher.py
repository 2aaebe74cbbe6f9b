from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny import TEXTS

import flipkd_sdk
from flipkd_sdk.errors import InvalidTextError, MatcherClosedError, TextTooLongError
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.serving.async_matcher import AsyncMatcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from flipkd_sdk.runtimes.encoding.encoder import Encoded
    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts

PAIRS = [(a, b) for a in TEXTS for b in TEXTS]


@pytest.fixture(scope="module")
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, on_truncate="ignore") as opened:
        yield opened


def test_the_package_exports_the_class() -> None:
    assert flipkd_sdk.AsyncMatcher is AsyncMatcher


def test_every_method_returns_the_result_of_the_matcher(matcher: Matcher) -> None:
    candidates = matcher.candidates(TEXTS)

    async def use() -> None:
        async with AsyncMatcher(matcher) as served:
            scores = await asyncio.gather(*(served.score(a, b) for a, b in PAIRS))
            np.testing.assert_allclose(scores, matcher.score_pairs(PAIRS), atol=1e-6, rtol=0)
            assert await served.is_match("a", "a") is True
            np.testing.assert_allclose(await served.encode(TEXTS), matcher.encode(TEXTS), atol=1e-6)
            np.testing.assert_allclose(await served.score_pairs(PAIRS), matcher.score_pairs(PAIRS), atol=1e-6)
            assert (await served.score_matrix(TEXTS, TEXTS[:3])).shape == (10, 3)
            ranked = await served.rank(TEXTS[0], candidates, top_k=3, score_cutoff=0.1)
            expected = candidates.rank(TEXTS[0], top_k=3, score_cutoff=0.1)
            assert [match.index for match in ranked] == [match.index for match in expected]

    asyncio.run(use())


def test_concurrent_calls_run_together(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    encode_pairs = matcher.scorer.encode_pairs

    def count(distinct: DistinctTexts) -> Encoded:
        runs.append(len(distinct.texts))
        return encode_pairs(distinct)

    monkeypatch.setattr(matcher.scorer, "encode_pairs", count)

    async def use() -> None:
        async with AsyncMatcher(matcher, max_batch_size=200) as served:
            await asyncio.gather(*(served.encode([str(i)]) for i in range(200)))

    asyncio.run(use())
    assert len(runs) < 100


def test_a_run_wakes_the_event_loop_once_for_all_its_answers(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    async def use() -> int:
        loop, wakes = asyncio.get_running_loop(), 0
        wake = loop.call_soon_threadsafe

        def count(*arguments: Any, **options: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return wake(*arguments, **options)

        async with AsyncMatcher(matcher, max_batch_size=200, on_batch=runs.append) as served:
            monkeypatch.setattr(loop, "call_soon_threadsafe", count)
            await asyncio.gather(*(served.score(f"{i}", "b") for i in range(200)))
            return wakes

    assert asyncio.run(use()) == len(runs) < 100


def test_an_event_loop_that_was_closed_holds_up_no_other(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, opened = threading.Event(), threading.Event()
    encode_pairs = matcher.scorer.encode_pairs

    def wait(distinct: DistinctTexts) -> Encoded:
        entered.set()
        assert opened.wait(60)
        return encode_pairs(distinct)

    served = AsyncMatcher(matcher)

    async def leave() -> None:
        task = asyncio.ensure_future(served.score("a", "b"))
        assert await asyncio.to_thread(entered.wait, 60)
        del task

    monkeypatch.setattr(matcher.scorer, "encode_pairs", wait)
    asyncio.run(leave())
    opened.set()

    async def use() -> float:
        async with served:
            return await asyncio.wait_for(served.score("a", "c"), 60)

    assert 0 <= asyncio.run(use()) <= 1


def test_calls_do_not_block_the_event_loop(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()
    encode = matcher.scorer._encode

    def wait(*arguments: Any, **options: Any) -> Encoded:
        assert opened.wait(60)
        return encode(*arguments, **options)

    candidates = matcher.candidates(TEXTS)
    monkeypatch.setattr(matcher.scorer, "_encode", wait)

    async def use() -> None:
        async with AsyncMatcher(matcher) as served:
            tasks = [
                asyncio.ensure_future(call)
                for call in (
                    served.score("a", "b"),
                    served.encode(["a"]),
                    served.rank("a", candidates),
                    served.score_pairs([("a", "b")]),
                    served.score_matrix(["a"], ["b"]),
                )
            ]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in tasks)
            opened.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 60)

    asyncio.run(use())


def test_each_coroutine_gets_its_own_error(tiny_matcher: Path) -> None:
    async def use(matcher: Matcher) -> list[float | BaseException]:
        async with AsyncMatcher(matcher) as served:
            calls = [served.score("a", text) for text in ("b", TEXTS[-1], None, "c")]  # type: ignore[arg-type]
            return await asyncio.gather(*calls, return_exceptions=True)

    with Matcher.load(tiny_matcher, on_truncate="error") as matcher:
        found = asyncio.run(use(matcher))
        assert [type(result) for result in found] == [float, TextTooLongError, InvalidTextError, float]
        np.testing.assert_allclose(found[0::3], [matcher.score("a", text) for text in "bc"], atol=1e-6)  # type: ignore


def test_a_cancelled_call_leaves_the_queue(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    entered, opened = threading.Event(), threading.Event()
    encode_pairs = matcher.scorer.encode_pairs

    def wait(distinct: DistinctTexts) -> Encoded:
        seen.extend(distinct.texts)
        entered.set()
        assert opened.wait(60)
        return encode_pairs(distinct)

    monkeypatch.setattr(matcher.scorer, "encode_pairs", wait)

    async def use() -> None:
        async with AsyncMatcher(matcher) as served:
            first = asyncio.ensure_future(served.encode(["first"]))
            assert await asyncio.to_thread(entered.wait, 60)
            waiting = asyncio.ensure_future(served.encode(["cancelled"]))
            await asyncio.sleep(0)
            waiting.cancel()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            opened.set()
            await served.encode(["last"])

    asyncio.run(use())
    assert seen == ["first", "last"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_failing_callback_of_one_call_leaves_no_other_waiting(matcher: Matcher, error: BaseException) -> None:
    def fail(_future: object) -> None:
        raise error

    async def use() -> None:
        async with AsyncMatcher(matcher) as served:
            future = served._batcher.submit_pair("a", "b")
            future.add_done_callback(fail)
            scores = asyncio.gather(asyncio.wrap_future(future), served.score("a", "c"), served.score("a", "d"))
            assert all(0 <= score <= 1 for score in await asyncio.wait_for(scores, 60))

    asyncio.run(use())


def test_calls_after_closing_are_errors_and_the_matcher_stays_open(matcher: Matcher) -> None:
    async def use() -> None:
        async with AsyncMatcher(matcher) as served:
            pass
        await served.aclose()
        candidates = matcher.candidates(["a"])
        for call in (
            served.score("a", "b"),
            served.is_match("a", "b"),
            served.encode(["a"]),
            served.rank("a", candidates),
            served.score_pairs([("a", "b")]),
            served.score_matrix(["a"], ["b"]),
        ):
            with pytest.raises(MatcherClosedError, match="closed"):
                await call

    asyncio.run(use())
    assert 0 <= matcher.score("a", "b") <= 1
