from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXTS = [f"text number {i}" for i in range(20)]


@pytest.fixture
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision="fp32", max_batch_tokens=64, cache_size=100) as opened:
        yield opened


def test_progress_rises_from_batch_to_batch_to_all_texts(matcher: Matcher) -> None:
    seen: list[tuple[int, int]] = []
    vectors = matcher.encode([*TEXTS, *TEXTS], progress=lambda done, total: seen.append((done, total)))
    assert np.array_equal(vectors, matcher.encode([*TEXTS, *TEXTS]))
    assert len(seen) > 2
    assert seen == sorted(set(seen))
    assert seen[-1] == (20, 20), "equal texts are encoded once"
    seen.clear()
    matcher.score_pairs(zip(TEXTS, reversed([*TEXTS, "one more"]), strict=False), progress=lambda *at: seen.append(at))
    assert seen[-1] == (21, 21)


def test_an_exception_of_progress_stops_the_call_and_leaves_the_matcher_usable(matcher: Matcher) -> None:
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matcher.score_pairs([(text, "other") for text in TEXTS], progress=stop)
    assert len(calls) == 1
    assert calls[0] < 21
    assert len(matcher.encode(TEXTS)) == 20
