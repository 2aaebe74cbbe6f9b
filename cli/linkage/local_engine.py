"""Engine for tables in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.cli.scoring.local_engine import identity_of
from flipkd_sdk.runtimes.encoding.inputs import distinct_texts
from flipkd_sdk.runtimes.linkage.decide import LocalDecider

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.matcher import Matcher


class LocalTableEngine(LocalDecider):
    """Engine with a matcher in this process, which the caller closes."""

    def __init__(self, matcher: Matcher, *, on_blank: str) -> None:
        super().__init__(matcher)
        self.identity: Mapping[str, str] = identity_of(matcher, on_blank)
        self.dimension = matcher.dimension

    @property
    def truncated(self) -> int:
        """Return the number of texts cut so far."""
        return self.matcher.truncated_texts

    def encoded(self, windows: Iterable[list[str]]) -> Iterator[NDArray[np.float32]]:
        """Implement `Engine.encoded`."""
        for window in windows:
            yield self.encode(distinct_texts(window))
