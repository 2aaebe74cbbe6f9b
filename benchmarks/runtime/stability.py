"""One pair, one score: how far scores move with what they are computed with."""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from cli_bench import texts

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from runtime.setting import Setting

_OPTIONS: dict[str, dict[str, int]] = {
    "one_thread": {"threads": 1},
    "three_threads": {"threads": 3},
    "small_batches": {"max_batch_tokens": 64},
    "large_batches": {"max_batch_tokens": 16_384},
    "cache": {"cache_size": 100},
}


def stability(setting: Setting) -> dict[str, Any]:
    """Largest change of a score against `score_pairs` on all pairs, by what was changed; 0 is bit for bit the same."""
    size = setting.size(1_000)
    words = " ".join(texts(200, seed=14)).split()
    chosen = random.Random(15)  # noqa: S311
    lengths = [chosen.randint(0, 80) for _ in range(2 * size)]
    drawn = [" ".join(chosen.choices(words, k=length)) for length in lengths]
    pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
    order = chosen.sample(range(size), size)
    with setting.load() as matcher:
        expected = matcher.score_pairs(pairs)
        found = {"alone": np.array([matcher.score(*pair) for pair in pairs])}
        found["sides_swapped"] = matcher.score_pairs([(b, a) for a, b in pairs])
        found["another_order"] = np.empty_like(expected)
        found["another_order"][order] = matcher.score_pairs([pairs[i] for i in order])
        found["five_texts_a_run"] = matcher.score_pairs(pairs, batch_size=5)
        with ThreadPoolExecutor(16) as pool:
            found["from_16_threads"] = np.concatenate(list(pool.map(matcher.score_pairs, _chunks(pairs))))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
            found["another_process"] = processes.submit(matcher.score_pairs, pairs).result()
    for name, options in _OPTIONS.items():
        found[name] = _scores(setting.matcher, options, pairs)
    changes = {name: float(np.abs(scores - expected).max()) for name, scores in found.items()}
    largest = max(changes.values())
    return {
        "pairs": size,
        "largest_change": largest,
        "by": changes,
        "target": "at most 1e-6",
        "met": largest <= 1e-6,
    }


def _scores(directory: Path, options: dict[str, int], pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    with Matcher.load(directory, device="cpu", on_truncate="ignore", **options) as matcher:  # type: ignore[arg-type]
        return matcher.score_pairs(pairs)


def _chunks(pairs: Sequence[tuple[str, str]]) -> list[Sequence[tuple[str, str]]]:
    return [pairs[start : start + 7] for start in range(0, len(pairs), 7)]
