"""The first promise: a pair has one score, wherever and with whatever it is computed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TEXTS, write_tiny_matcher

from flipkd_sdk.errors import MatcherDirectoryError
from flipkd_sdk.runtimes.matcher import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

WORDS = ["card", "pin", "fee", "transfer", "payment", "密码", "forgot", "reset", "how", "where", "declined"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
PAIRS = [(a, b) for a in TEXTS for b in TEXTS[::2]]
TOLERANCE = 1e-6


@pytest.fixture(scope="module", params=["fp32", "int8"])
def matcher(tiny_matcher: Path, request: pytest.FixtureRequest) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision=request.param, on_truncate="ignore", threads=2) as opened:
        yield opened


@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=25), order=st.randoms(), rows=st.integers(1, 9))
def test_alone_batched_and_reordered(matcher: Matcher, pairs: list[tuple[str, str]], order: Random, rows: int) -> None:
    alone = np.array([matcher.score(a, b) for a, b in pairs])
    np.testing.assert_allclose(matcher.score_pairs(pairs), alone, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(matcher.score_pairs(pairs, batch_size=rows), alone, atol=TOLERANCE, rtol=0)
    shuffled = list(range(len(pairs)))
    order.shuffle(shuffled)
    again = matcher.score_pairs([pairs[i] for i in shuffled])
    np.testing.assert_allclose(again, alone[shuffled], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 3}, {"max_batch_tokens": 1}, {"cache_size": 7}])
def test_threads_budget_and_cache_move_no_score(matcher: Matcher, tiny_matcher: Path, options: dict[str, int]) -> None:
    expected = matcher.score_pairs(PAIRS)
    with Matcher.load(
        tiny_matcher,
        precision=matcher.precision,
        on_truncate="ignore",
        **options,  # type: ignore[arg-type]
    ) as other:
        for _ in range(2):
            np.testing.assert_allclose(other.score_pairs(PAIRS), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("cache_size", [0, 5])
def test_one_matcher_serves_many_threads(tiny_matcher: Path, cache_size: int) -> None:
    with Matcher.load(tiny_matcher, on_truncate="ignore", cache_size=cache_size) as matcher:
        expected = matcher.score_pairs(PAIRS)

        def work(start: int) -> float:
            some = np.roll(np.arange(len(PAIRS)), start)[:20]
            scores = matcher.score_pairs([PAIRS[i] for i in some])
            one = matcher.score(*PAIRS[start % len(PAIRS)])
            return max(float(np.abs(scores - expected[some]).max()), abs(one - float(expected[start % len(PAIRS)])))

        with ThreadPoolExecutor(32) as pool:
            assert max(pool.map(work, range(128))) <= TOLERANCE


def test_a_pickle_opens_the_same_matcher(matcher: Matcher) -> None:
    with pickle.loads(pickle.dumps(matcher)) as other:  # noqa: S301
        assert (other.precision, other.device, other.manifest) == (matcher.precision, "cpu", matcher.manifest)
        np.testing.assert_array_equal(other.score_pairs(PAIRS), matcher.score_pairs(PAIRS))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_processes_agree(matcher: Matcher, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    # A pool of this kind ends a worker that hangs; an executor would wait for it.
    with multiprocessing.get_context(method).Pool(1) as pool:
        scores = pool.apply_async(matcher.score_pairs, (PAIRS,)).get(timeout=120)
    np.testing.assert_allclose(scores, matcher.score_pairs(PAIRS), atol=TOLERANCE, rtol=0)


def test_a_pickle_refuses_a_directory_that_was_replaced(tmp_path: Path) -> None:
    with Matcher.load(write_tiny_matcher(tmp_path / "matcher")) as matcher:
        pickled = pickle.dumps(matcher)
    write_tiny_matcher(tmp_path / "matcher", seed=1)
    with pytest.raises(MatcherDirectoryError, match="was replaced"):
        pickle.loads(pickled)  # noqa: S301


FORK = """
import os, sys
from flipkd_sdk import Matcher
matcher = Matcher.load(sys.argv[1], threads=2, cache_size=10)
before = matcher.score("card", "pin")
sys.stdout.flush()
child = os.fork()
if child == 0:
    if sys.argv[2] == "used":
        assert abs(matcher.score("card", "pin") - before) <= 1e-6
        assert abs(matcher.score_pairs([("card", "pin"), ("a", "b")])[0] - before) <= 1e-6
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert matcher.score("card", "pin") == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("use", ["used", "unused"])
def test_a_forked_child_scores_and_exits(tiny_matcher: Path, use: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    # In a process of its own, which can be ended if the child hangs.
    process = subprocess.Popen(
        [sys.executable, "-c", FORK, str(tiny_matcher), use],
        env=environment,
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
