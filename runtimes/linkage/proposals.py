"""Searches that propose pairs of near texts: exact, or approximate where that takes less time."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Literal

import numpy as np

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.runtimes.linkage.approximate import approximate_pairs
from flipkd_sdk.runtimes.linkage.near_pairs import Pairs, near_pairs
from flipkd_sdk.runtimes.options import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_logger = logging.getLogger("flipkd_sdk")

Search = Literal["exact", "ann", "auto"]
SEARCHES: tuple[Search, ...] = ("exact", "ann", "auto")
ANN_TEXTS = 500_000
"""Distinct texts of each side from which on ``search="auto"`` is approximate."""


def check_search(search: str) -> None:
    """Check early that a search can run.

    Raises:
        ConfigError: there is no such search.
        ModuleNotFoundError: its package is not installed.
    """
    if search not in SEARCHES:
        raise ConfigError(f"search must be one of {', '.join(SEARCHES)}; it is {shown(search)}")
    if search == "ann" and not _has_package():
        raise ModuleNotFoundError("search 'ann' needs: pip install 'flipkd-sdk[ann]'", name="usearch")


def proposed(
    left: NDArray[np.float32],
    right: NDArray[np.float32] | None,
    never: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    *,
    least: float,
    most: int,
    search: Search,
    progress: Callable[[str, int, int], None] | None,
) -> Pairs:
    """Return the near pairs of texts that can match; ``never`` are the texts that cannot, of either side."""
    rows, columns = (np.flatnonzero(~side) for side in never)
    report = None if progress is None else (lambda done, total: progress("searching", done, total))
    a_vectors = left if len(rows) == len(left) else left[rows]
    b_vectors = right if right is None or len(columns) == len(right) else right[columns]
    approximate = _is_approximate(search, min(len(rows), len(columns)))
    pairs = approximate_pairs if approximate else near_pairs
    found = pairs(a_vectors, b_vectors, least=least, most=most, progress=report)
    return Pairs(rows[found.a], columns[found.b], found.cosine)


def _is_approximate(search: Search, texts: int) -> bool:
    if search != "auto" or texts < ANN_TEXTS:
        return search == "ann"
    if not _has_package():
        _logger.warning(
            "%d distinct texts are compared exactly, which takes long; for an approximate search: "
            "pip install 'flipkd-sdk[ann]'",
            texts,
        )
        return False
    return True


def _has_package() -> bool:
    return importlib.util.find_spec("usearch") is not None
