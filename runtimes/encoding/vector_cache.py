"""A bounded memory of vectors between calls."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray


class CachedVector(NamedTuple):
    """What is remembered of a text."""

    vector: NDArray[np.float32]
    """Shape (d,)."""
    was_cut: bool
    """Whether the text was longer than the matcher reads, so that later calls can say so too."""


class VectorCache:
    """Vectors of the most recently used texts; safe to share between threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[str, CachedVector] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, texts: Sequence[str]) -> list[CachedVector | None]:
        """What is known of each text, None where nothing is."""
        with self._lock:
            found = []
            for text in texts:
                entry = self._entries.get(text)
                if entry is not None:
                    self._entries.move_to_end(text)
                found.append(entry)
            return found

    def put(self, entries: Iterable[tuple[str, CachedVector]]) -> None:
        """Remember entries, and forget the least recently used ones beyond the size."""
        with self._lock:
            for text, entry in entries:
                self._entries[text] = entry
                self._entries.move_to_end(text)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
