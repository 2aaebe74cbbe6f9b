"""Cost of an explanation against a single score."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from runtime.parts import texts

if TYPE_CHECKING:
    from runtime.parts import Setting


def explanations(setting: Setting) -> dict[str, Any]:
    """Measure `explain` and `score` on the same pairs, in turn."""
    size = setting.size(500)
    seconds: dict[str, list[float]] = {"score": [], "explain": []}
    with setting.load() as matcher:
        matcher.explain("a text", "another text")
        for pair in zip(texts(size, seed=7), texts(size, seed=8), strict=True):
            for name, way in (("score", matcher.score), ("explain", matcher.explain)):
                start = time.perf_counter()
                way(*pair)
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratio = medians["explain"] / medians["score"]
    return {
        "pairs": size,
        **{f"{name}_p50_seconds": value for name, value in medians.items()},
        "explain_to_score": ratio,
        "target": "explain at most 1.3 of score",
        "met": ratio <= 1.3,
    }
