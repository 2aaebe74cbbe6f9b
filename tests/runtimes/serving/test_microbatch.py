from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny import TEXTS

import flipkd_sdk
from flipkd_sdk.errors import ConfigError, InvalidTextError, MatcherClosedError, TextTooLongError
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.serving.microbatch import MicroBatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.encoder import Encoded
    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts

PAIRS = [(a, b) for a in TEXTS for b in TEXTS]
FOR_EVER = 3600.0


@pytest.fixture(scope="module")
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, on_truncate="ignore") as opened:
        yield opened


class Gate:
    """Stands before a matcher, counts its runs and holds them back until it is opened."""

    def __init__(self, matcher: Matcher) -> None:
        self.threshold = matcher.threshold
        self.scorer = self
        self.pair_scores = matcher.scorer.pair_scores
        self.runs: list[int] = []
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self._matcher = matcher

    def encode_pairs(self, distinct: DistinctTexts) -> Encoded:
        self.runs.append(len(distinct.texts))
        self.entered.release()
        assert self.opened.wait(60)
        return self._matcher.scorer.encode_pairs(distinct)


@pytest.fixture
def gate(matcher: Matcher) -> Iterator[Gate]:
    made = Gate(matcher)
    yield made
    made.opened.set()


def test_the_package_exports_the_class() -> None:
    assert flipkd_sdk.MicroBatcher is MicroBatcher


def test_many_callers_get_the_scores_of_the_matcher(matcher: Matcher) -> None:
    expected = matcher.score_pairs(PAIRS)
    with MicroBatcher(matcher) as batcher, ThreadPoolExecutor(32) as pool:
        scores = list(pool.map(lambda pair: batcher.score(*pair), PAIRS))
        answers = list(pool.map(lambda pair: batcher.is_match(*pair), PAIRS))
    assert all(isinstance(score, float) for score in scores)
    np.testing.assert_allclose(scores, expected, atol=1e-6, rtol=0)
    assert answers == [score >= matcher.threshold for score in scores]


def test_vectors_and_rankings_are_those_of_the_matcher(matcher: Matcher) -> None:
    candidates = matcher.candidates(TEXTS)
    with MicroBatcher(matcher) as batcher:
        found = [batcher.submit_texts(texts) for texts in ([], ["a", "b", "a"], TEXTS)]
        for future, texts in zip(found, ([], ["a", "b", "a"], TEXTS), strict=True):
            np.testing.assert_allclose(future.result(60), matcher.encode(texts), atol=1e-6)
        ranked = batcher.rank(TEXTS[0], candidates, top_k=3)
        assert [match.index for match in ranked] == [match.index for match in candidates.rank(TEXTS[0], top_k=3)]


def test_calls_during_a_run_are_joined_into_the_next_run(gate: Gate) -> None:
    batcher = MicroBatcher(gate, max_delay=0)  # type: ignore[arg-type]
    first = batcher.submit_pair("a", "b")
    assert gate.entered.acquire(timeout=60)
    others = [batcher.submit_pair(f"{i}", "b") for i in range(10)]
    gate.opened.set()
    assert len({future.result(60) for future in [first, *others]}) > 1
    batcher.close()
    assert gate.runs == [2, 11]


def test_a_run_joins_at_most_max_batch_size_calls(gate: Gate) -> None:
    batcher = MicroBatcher(gate, max_delay=0, max_batch_size=4)  # type: ignore[arg-type]
    batcher.submit_texts(["first"])
    assert gate.entered.acquire(timeout=60)
    for i in range(10):
        batcher.submit_texts([str(i)])
    gate.opened.set()
    batcher.close()
    assert gate.runs == [1, 4, 4, 2]


def test_a_lone_caller_does_not_wait(matcher: Matcher) -> None:
    with MicroBatcher(matcher, max_delay=FOR_EVER) as batcher:
        for pair in PAIRS[:5]:
            batcher.submit_pair(*pair).result(60)


def test_steady_callers_wait_for_each_other(gate: Gate) -> None:
    batcher = MicroBatcher(gate, max_delay=FOR_EVER)  # type: ignore[arg-type]
    first = batcher.submit_texts(["a"])
    assert gate.entered.acquire(timeout=60)
    second = batcher.submit_texts(["b"])
    gate.opened.set()
    first.result(60)
    # The second one waits for the first to come back, as the two are known to be around.
    assert not second.done()
    assert batcher.submit_texts(["c"]).result(60).shape == (1, 16)
    assert second.result(60).shape == (1, 16)
    assert gate.runs == [1, 2]
    batcher.close()


def test_max_delay_limits_the_wait_for_earlier_callers(gate: Gate) -> None:
    batcher = MicroBatcher(gate, max_delay=0.01)  # type: ignore[arg-type]
    batcher.submit_texts(["a"])
    assert gate.entered.acquire(timeout=60)
    second = batcher.submit_texts(["b"])
    gate.opened.set()
    second.result(60)
    batcher.close()
    assert gate.runs == [1, 1]


def test_an_error_goes_to_the_caller_who_caused_it(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher, on_truncate="error") as matcher:
        gate = Gate(matcher)
        batcher = MicroBatcher(gate)  # type: ignore[arg-type]
        futures = [batcher.submit_pair("a", "b")]
        assert gate.entered.acquire(timeout=60)
        futures += [batcher.submit_pair("a", text) for text in ("c", TEXTS[-1], "d")]
        with pytest.raises(InvalidTextError, match=r"^second text: expected a str, found None"):
            batcher.submit_pair("a", None)  # type: ignore[arg-type]
        gate.opened.set()
        with pytest.raises(TextTooLongError, match=r"^second text: longer than the 32 tokens"):
            futures.pop(2).result(60)
        np.testing.assert_allclose(
            [future.result(60) for future in futures], [matcher.score("a", text) for text in "bcd"], atol=1e-6
        )
        batcher.close()


def test_an_unexpected_error_reaches_its_callers_and_the_next_call_is_served(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(distinct: DistinctTexts) -> NDArray[np.float32]:
        raise MemoryError("out of memory")

    with MicroBatcher(matcher) as batcher:
        with monkeypatch.context() as patch:
            patch.setattr(matcher.scorer, "encode_pairs", fail)
            for future in [batcher.submit_pair("a", "b"), batcher.submit_pair("a", "c")]:
                with pytest.raises(MemoryError):
                    future.result(60)
        assert 0 <= batcher.score("a", "b") <= 1


def test_system_exit_in_a_run_reaches_its_callers(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(distinct: DistinctTexts) -> NDArray[np.float32]:
        raise SystemExit(3)

    with MicroBatcher(matcher) as batcher:
        with monkeypatch.context() as patch:
            patch.setattr(matcher.scorer, "encode_pairs", fail)
            with pytest.raises(SystemExit):
                batcher.submit_pair("a", "b").result(60)
        assert 0 <= batcher.submit_pair("a", "b").result(60) <= 1


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), ValueError("wrong")]
)
def test_an_error_of_a_done_callback_is_logged_and_other_calls_are_served(
    gate: Gate, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_future: Future[float]) -> None:
        raise error

    batcher = MicroBatcher(gate)  # type: ignore[arg-type]
    first, called = batcher.submit_pair("a", "b"), threading.Event()
    first.add_done_callback(fail)
    first.add_done_callback(lambda _: called.set())
    assert gate.entered.acquire(timeout=60)
    second = batcher.submit_pair("a", "c")
    gate.opened.set()
    assert 0 <= first.result(60) <= 1
    assert 0 <= second.result(60) <= 1
    assert called.wait(60)
    assert 0 <= batcher.submit_pair("c", "d").result(60) <= 1
    batcher.close()
    assert any(record.exc_info and record.exc_info[1] is error for record in caplog.records)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda future: future.set_result(0.5),
        lambda future: future.set_exception(ValueError("mine")),
        lambda future: future.set_running_or_notify_cancel(),
    ],
)
def test_a_caller_cannot_resolve_a_future(gate: Gate, tamper: Callable[[Future[float]], object]) -> None:
    batcher = MicroBatcher(gate)  # type: ignore[arg-type]
    first = batcher.submit_pair("a", "b")
    assert gate.entered.acquire(timeout=60)
    waiting = batcher.submit_pair("a", "c")
    for future in (first, waiting):
        with pytest.raises(InvalidStateError, match="the micro-batcher resolves this future"):
            tamper(future)
    gate.opened.set()
    assert first.result(60) != waiting.result(60)
    batcher.close()


def test_futures_resolved_by_force_hold_up_no_other_call(gate: Gate) -> None:
    batcher = MicroBatcher(gate)  # type: ignore[arg-type]
    first = batcher.submit_pair("a", "b")
    assert gate.entered.acquire(timeout=60)
    waiting = [batcher.submit_pair("a", text) for text in "cdef"]
    Future.set_result(first, 0.25)
    Future.set_result(waiting[0], 0.75)
    assert waiting[1].cancel()
    Future.set_running_or_notify_cancel(waiting[1])
    gate.opened.set()
    assert 0 <= waiting[2].result(60) <= 1
    assert 0 <= waiting[3].result(60) <= 1
    assert (first.result(0), waiting[0].result(0), waiting[1].cancelled()) == (0.25, 0.75, True)
    batcher.close()


def test_a_done_callback_can_submit_calls_but_not_wait_for_them(matcher: Matcher) -> None:
    outcome: Future[float] = Future()

    def ask_again(_future: Future[float]) -> None:
        again = batcher.submit_pair("c", "d")
        try:
            again.result()
        except RuntimeError as error:
            assert "cannot wait for another call" in str(error)
            again.add_done_callback(lambda future: outcome.set_result(future.result()))

    with MicroBatcher(matcher) as batcher:
        batcher.submit_pair("a", "b").add_done_callback(ask_again)
        assert outcome.result(60) == pytest.approx(matcher.score("c", "d"), abs=1e-6)


@pytest.mark.parametrize("where", ["_take", "_answer"])
def test_a_failure_of_the_queue_itself_fails_the_calls_and_serves_the_next(
    gate: Gate, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = MicroBatcher(gate)  # type: ignore[arg-type]
    first = batcher.submit_pair("a", "b")
    assert gate.entered.acquire(timeout=60)
    second = batcher.submit_pair("a", "c")
    worker, original = batcher._worker, getattr(batcher._worker, where)

    def fail_once(*arguments: object) -> object:
        setattr(worker, where, original)
        raise MemoryError("out of memory")

    monkeypatch.setattr(worker, where, fail_once)
    gate.opened.set()
    assert 0 <= first.result(60) <= 1
    with pytest.raises(MemoryError):
        second.result(60)
    assert 0 <= batcher.submit_pair("c", "d").result(60) <= 1
    batcher.close()


def test_calls_of_all_kinds_are_joined(gate: Gate, matcher: Matcher) -> None:
    batcher = MicroBatcher(gate, max_delay=0)  # type: ignore[arg-type]
    batcher.submit_texts(["first"])
    assert gate.entered.acquire(timeout=60)
    pair, none, same = batcher.submit_pair("a", "b"), batcher.submit_texts([]), batcher.submit_pair("b", "b")
    several, query, last = (
        batcher.submit_texts(["b", "c", "b"]),
        batcher.submit_query("a"),
        batcher.submit_pair("c", "a"),
    )
    gate.opened.set()
    batcher.close()
    assert gate.runs == [1, 3]
    scores = [future.result(60) for future in (pair, same, last)]
    np.testing.assert_allclose(scores, matcher.score_pairs([("a", "b"), ("b", "b"), ("c", "a")]), atol=1e-6)
    assert none.result(60).shape == (0, 16)
    np.testing.assert_allclose(several.result(60), matcher.encode(["b", "c", "b"]), atol=1e-6)
    np.testing.assert_allclose(query.result(60), matcher.encode(["a"]), atol=1e-6)


def test_a_call_can_be_cancelled_until_it_runs(gate: Gate) -> None:
    batcher = MicroBatcher(gate)  # type: ignore[arg-type]
    running = batcher.submit_texts(["a"])
    assert gate.entered.acquire(timeout=60)
    waiting = batcher.submit_texts(["b"])
    assert waiting.cancel()
    assert not running.cancel()
    gate.opened.set()
    assert running.result(60).shape == (1, 16)
    with pytest.raises(CancelledError):
        waiting.result(60)
    # All of the calls of a run may be gone.
    assert batcher.submit_texts(["c"]).result(60).shape == (1, 16)
    batcher.close()
    assert "b" not in gate.runs


def test_closing_answers_queued_calls_and_refuses_later_ones(gate: Gate) -> None:
    batcher = MicroBatcher(gate, max_delay=FOR_EVER)  # type: ignore[arg-type]
    futures = [batcher.submit_texts(["a"])]
    assert gate.entered.acquire(timeout=60)
    futures += [batcher.submit_texts([text]) for text in "bcd"]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    gate.opened.set()
    closing.join(60)
    assert not closing.is_alive()
    assert all(future.done() for future in futures)
    batcher.close()
    with pytest.raises(MatcherClosedError, match="micro-batcher was closed"):
        batcher.submit_texts(["e"])


def test_a_closed_matcher_is_each_caller_s_error(tiny_matcher: Path) -> None:
    matcher = Matcher.load(tiny_matcher)
    with MicroBatcher(matcher) as batcher:
        matcher.close()
        for _ in range(2):
            with pytest.raises(MatcherClosedError, match=r"Matcher\.load"):
                batcher.score("a", "b")


def test_a_call_tries_to_start_the_thread_if_an_earlier_one_failed(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with MicroBatcher(matcher) as batcher:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            with pytest.raises(RuntimeError, match="can't start"):
                batcher.submit_pair("a", "b")
        assert 0 <= batcher.submit_pair("a", "b").result(60) <= 1


def test_the_batch_size_must_be_an_integer(matcher: Matcher) -> None:
    with pytest.raises(ConfigError, match=r"max_batch_size must be an integer of at least 1; it is 2\.5"):
        MicroBatcher(matcher, max_batch_size=2.5)  # type: ignore[arg-type]


def test_the_thread_ends_when_the_object_is_collected(matcher: Matcher) -> None:
    batcher = MicroBatcher(matcher)
    batcher.score("a", "b")
    thread = batcher._worker._thread
    assert thread is not None
    gone = weakref.ref(batcher)
    del batcher
    gc.collect()
    thread.join(60)
    assert gone() is None
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("option", "message"), [({"max_delay": -1}, "max_delay"), ({"max_batch_size": 0}, "max_batch")]
)
def test_options_out_of_range_are_errors(matcher: Matcher, option: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MicroBatcher(matcher, **option)  # type: ignore[arg-type]


FORK = """
import os, sys
from flipkd_sdk import Matcher, MicroBatcher
with Matcher.load(sys.argv[1]) as matcher, MicroBatcher(matcher) as batcher, MicroBatcher(matcher) as closed:
    before = batcher.score("card", "pin")
    closed.score("card", "pin")
    closed.close()
    if sys.argv[2] == "locked":
        batcher._worker._changed.acquire()
    child = os.fork()
    if child == 0:
        assert abs(batcher.score("card", "pin") - before) <= 1e-6
        try:
            closed.score("card", "pin")
        except Exception as error:
            assert "closed" in str(error)
            sys.exit(7)
    if sys.argv[2] == "locked":
        batcher._worker._changed.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert abs(batcher.score("card", "pin") - before) <= 1e-6
    # Left to the end of the interpreter.
    forgotten = MicroBatcher(Matcher.load(sys.argv[1]))
    forgotten.submit_pair("a", "b")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("state", ["free", "locked"])
def test_a_forked_child_has_a_queue_of_its_own(tiny_matcher: Path, state: str) -> None:
    # In a process group of its own, which can be ended if the child hangs.
    process = subprocess.Popen(
        [sys.executable, "-c", FORK, str(tiny_matcher), state],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        pytest.fail("the forked child hangs")
    assert process.returncode == 0, errors
