"""Engine for tables in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.cli.scoring.local_engine import identity_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.runtimes.matcher import Matcher


class LocalTableEngine:
    """Engine with a matcher in this process, which the caller closes."""

    def __init__(self, matcher: Matcher, *, on_blank: str) -> None:
        self._matcher = matcher
        self.identity: Mapping[str, str] = identity_of(matcher, on_blank)
        self.dimension = matcher.dimension
        self.calibration: Calibration = matcher.calibration
        self.threshold = matcher.threshold
        self.search_threshold: float | None = getattr(matcher, "search_threshold", None)
        self.has_head = matcher.has_head

    @property
    def truncated(self) -> int:
        """Return the number of texts cut so far."""
        return self._matcher.truncated_texts

    def encoded(self, windows: Iterable[list[str]]) -> Iterator[NDArray[np.float32]]:
        """Implement `Engine.encoded`."""
        for window in windows:
            yield self._matcher.encode(window)

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.float32]:
        """Implement `Scorer.score_pairs`."""
        return self._matcher.score_pairs(pairs)

    def never_match(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Implement `Scorer.never_match`."""
        return self._matcher.never_match(texts)
