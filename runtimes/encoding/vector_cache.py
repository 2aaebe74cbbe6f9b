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


_ENTRY_BYTES = 700
"""Memory of an entry beside its text and numbers: objects and the place in the dictionary."""


class CachedVector(NamedTuple):
    """Cache entry of a text."""

    vector: NDArray[np.float32]
    """Shape (d,)."""
    was_cut: bool
    """True if the text was truncated, so that later calls report it too."""
    tokens: TextTokens | None = None
    """Its tokens, if a pair head asked for them."""

    def nbytes(self, text: str) -> int:
        """Return the memory that the entry of a text takes, about."""
        tokens = 0 if self.tokens is None else self.tokens.ids.nbytes + self.tokens.vectors.nbytes
        return _ENTRY_BYTES + len(text) + self.vector.nbytes + tokens


class VectorCache:
    """Vectors of the most recently used texts; safe to share between threads.

    Args:
        size: most texts; None for any number.
        max_bytes: most memory; None for any.
    """

    def __init__(self, size: int | None, max_bytes: int | None = None) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
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
                before = self._entries.get(text)
                self._bytes += entry.nbytes(text) - (0 if before is None else before.nbytes(text))
                self._entries[text] = entry
                self._entries.move_to_end(text)
            while self._is_full():
                oldest, entry = self._entries.popitem(last=False)
                self._bytes -= entry.nbytes(oldest)

    def _is_full(self) -> bool:
        many = self._size is not None and len(self._entries) > self._size
        return many or (self._max_bytes is not None and self._bytes > self._max_bytes)
