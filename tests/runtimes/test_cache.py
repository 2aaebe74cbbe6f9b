from __future__ import annotations

from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.runtimes.cache import CachedVector, VectorCache

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
