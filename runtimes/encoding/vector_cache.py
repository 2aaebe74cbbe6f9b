"""A least-recently-used cache of vectors between calls."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.text_tokens import TextTokens


class CachedVector(NamedTuple):
    """Cache entry of a text."""

    vector: NDArray[np.float32]
    """Shape (d,)."""
    was_cut: bool
    """True if the text was truncated, so that later calls report it too."""
    tokens: TextTokens | None = None
    """Its tokens, if a pair head asked for them."""


class VectorCache:
    """Vectors of the most recently used texts; safe to share between threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[str, CachedVector] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, texts: Sequence[str]) -> list[CachedVector | None]:
        """Return the entry of each text, or None."""
        with self._lock:
            entries = []
            for text in texts:
                entry = self._entries.get(text)
                if entry is not None:
                    self._entries.move_to_end(text)
                entries.append(entry)
            return entries

    def put(self, entries: Iterable[tuple[str, CachedVector]]) -> None:
        """Add entries, and drop the least recently used ones beyond the size."""
        with self._lock:
            for text, entry in entries:
                self._entries[text] = entry
                self._entries.move_to_end(text)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
