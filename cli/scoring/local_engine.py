"""Engine that scores in this process; `ray_engine` scores on many machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.cli.console import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.cli.scoring.loop import Scored
    from flipkd_sdk.cli.tables.sources import Chunk
    from flipkd_sdk.runtimes.matcher import Matcher

_CHUNK_ROWS = 8192
_FIRST_ROWS = 256
_PART_SECONDS = 1.0
"""Time after which scores are kept and progress is shown."""


class LocalEngine:
    """Engine with a matcher in this process, which the caller closes."""

    chunk_rows = _CHUNK_ROWS

    def __init__(self, matcher: Matcher, *, on_blank: str) -> None:
        self._matcher = matcher
        self.part_rows = _FIRST_ROWS
        self.threshold = matcher.threshold
        self.identity = identity_of(matcher, on_blank)

    def scored(self, chunks: Iterable[Chunk]) -> Iterator[Scored]:
        """Implement `Engine.scored`."""
        for chunk in chunks:
            watch = Stopwatch()
            scores = self._matcher.score_pairs(chunk.pairs)
            # At most twice as many, because the next texts may be longer.
            fitting = min(2 * len(scores), int(watch.rate(len(scores)) * _PART_SECONDS))
            self.part_rows = min(max(_FIRST_ROWS, fitting), _CHUNK_ROWS)
            yield chunk, scores

    @property
    def truncated(self) -> int:
        """Return the number of texts cut so far."""
        return self._matcher.truncated_texts

    def explain(self, pairs: list[tuple[str, str]]) -> list[str]:
        """Implement `Engine.explain`."""
        return [self._matcher.explain(*pair).to_text() for pair in pairs]

    def familiarity(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Implement `Engine.familiarity`."""
        return pair_familiarity(self._matcher, pairs)


def pair_familiarity(matcher: Matcher, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    """Return the familiarity of each pair's less familiar text, shape (n,)."""
    lower: NDArray[np.float32] = matcher.familiarity(text for pair in pairs for text in pair).reshape(-1, 2).min(axis=1)
    return lower


def identity_of(matcher: Matcher, on_blank: str) -> Mapping[str, str]:
    """Return all that decides the scores of a loaded matcher."""
    calibration = matcher.pair_calibration
    return {
        "precision": matcher.precision,
        "--on-blank": on_blank,
        "device": matcher.device.partition(":")[0],
        "matcher": matcher.identity[:16],
        "pair head": "on" if matcher.has_head else "off",
        "calibration": f"{calibration.slope!r} {calibration.intercept!r} {calibration.threshold!r}",
    }
