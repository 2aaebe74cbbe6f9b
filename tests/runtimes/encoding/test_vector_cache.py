from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.runtimes.encoding.vector_cache import CachedVector, VectorCache

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY = CachedVector(np.zeros(1, dtype=np.float32), was_cut=False)
STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), max_size=60)


@given(STEPS, st.integers(1, 4))
def test_the_least_recently_used_texts_are_forgotten(steps: list[tuple[bool, str]], size: int) -> None:
    cache = VectorCache(size)
    model: OrderedDict[str, None] = OrderedDict()
    for is_put, text in steps:
        if is_put:
            cache.put([(text, ENTRY)])
            model[text] = None
            model.move_to_end(text)
            if len(model) > size:
                model.popitem(last=False)
        else:
            (found,) = cache.get([text])
            assert (found is not None) == (text in model)
            if text in model:
                model.move_to_end(text)
        assert len(cache) == len(model) <= size


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 50)), max_size=40), st.integers(1, 6))
def test_entries_take_no_more_memory_than_allowed(steps: list[tuple[str, int]], room: int) -> None:
    most = room * ENTRY.nbytes("a")
    cache = VectorCache(None, most)
    kept: OrderedDict[str, CachedVector] = OrderedDict()
    for text, length in steps:
        entry = CachedVector(np.zeros(length, dtype=np.float32), was_cut=False)
        cache.put([(text, entry)])
        kept[text] = entry
        kept.move_to_end(text)
        while sum(entry.nbytes(text) for text, entry in kept.items()) > most:
            kept.popitem(last=False)
        assert len(cache) == len(kept)
        assert [found is kept[text] for text in [*kept] for found in cache.get([text])] == [True] * len(kept)


def test_one_thread_at_a_time_looks_or_changes() -> None:
    cache = VectorCache(4)
    half_way, looked = threading.Event(), threading.Event()
    seen_half_way = []

    def entries() -> Iterator[tuple[str, CachedVector]]:
        yield "a", ENTRY
        half_way.set()
        seen_half_way.append(looked.wait(0.1))
        yield "b", ENTRY

    def look() -> list[CachedVector | None]:
        half_way.wait()
        found = cache.get(["a", "b"])
        looked.set()
        return found

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(look)
        cache.put(entries())
        assert found.result() == [ENTRY, ENTRY]
    assert seen_half_way == [False]
