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
    """Engine with a matcher in this process, and perhaps another one that searches; the caller closes both."""

    def __init__(self, matcher: Matcher, searching: Matcher | None = None, *, on_blank: str) -> None:
        super().__init__(matcher, searching)
        other = {} if searching is None else {"searched with": searching.identity}
        self.identity: Mapping[str, str] = {**identity_of(matcher, on_blank), **other}
        self.dimension = self.searching.dimension

    @property
    def truncated(self) -> int:
        """Return the number of texts cut so far."""
        return self.searching.truncated_texts

    def encoded(self, windows: Iterable[list[str]]) -> Iterator[NDArray[np.float32]]:
        """Implement `Engine.encoded`."""
        for window in windows:
            yield self.encode(distinct_texts(window))
