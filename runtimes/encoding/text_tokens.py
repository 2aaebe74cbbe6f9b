"""`TextTokens`: what the pair head reads of one text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TextTokens(NamedTuple):
    """Tokens of one text."""

    ids: NDArray[np.uint32]
    """Shape (n,)."""
    vectors: NDArray[np.float32]
    """Shape (n, k)."""
