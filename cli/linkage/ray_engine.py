"""Engine for tables on a pool of Ray actors, which encode texts and score pairs; this process searches and groups."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.cli.scoring.ray_engine import RayEngine

_TASK_PAIRS = 512
"""Pairs of a task; few, so that the last tasks do not leave most of the actors idle."""


class RayTableEngine:
    """Engine on a pool of actors; see `flipkd_sdk.cli.scoring.ray_engine.ray_engine`."""

    def __init__(self, pool: RayEngine, *, on_blank: str) -> None:
        self._pool = pool
        self._on_blank = on_blank
        found = pool.properties()
        self.identity: Mapping[str, str] = pool.identity
        self.dimension = found.dimension
        self.calibration = found.calibration
        self.threshold = pool.threshold
        self.search_threshold = found.search_threshold
        self.has_head = found.has_head
        self.chunk_pairs = 4 * _TASK_PAIRS * pool.queued

    @property
    def truncated(self) -> int:
        """Return the number of texts cut so far."""
        return self._pool.truncated

    def encoded(self, windows: Iterable[list[str]]) -> Iterator[NDArray[np.float32]]:
        """Implement `Engine.encoded`."""
        return (found for _, found in self._pool.mapped("encode", ((None, window) for window in windows)))

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.float32]:
        """Implement `Decider.score_pairs`."""
        waiting = iter(pairs)
        tasks = ((None, task) for task in iter(lambda: list(islice(waiting, _TASK_PAIRS)), []))
        return np.concatenate(
            [np.empty(0, np.float32), *(found for _, found in self._pool.mapped("score_encoded", tasks))]
        )

    def never_match(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Implement `Decider.never_match`."""
        if self._on_blank == "score":
            return np.zeros(len(texts), dtype=np.bool_)
        return np.fromiter((not text or text.isspace() for text in texts), np.bool_, len(texts))
