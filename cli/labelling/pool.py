"""Pairs to choose from: the nearest texts of each text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import InvalidPairsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]
    """n texts → unit vectors (n, d)."""

_QUERIES = 4000
_NEIGHBOURS = 10
_BLOCK = 256
_LARGEST = 6000
"""Pairs of a pool: enough for days of labelling, few enough to score and to choose from at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Pairs of texts with a value that rises with the likelihood of a match."""

    a: list[str]
    b: list[str]
    values: NDArray[np.float64]
    """Shape (n,)."""
    vectors_a: NDArray[np.float32]
    """Unit vectors of a, shape (n, d)."""
    vectors_b: NDArray[np.float32]
    """Unit vectors of b, shape (n, d)."""

    def __len__(self) -> int:
        return len(self.a)


def make_pool(
    a_texts: Sequence[str],
    b_texts: Sequence[str] | None,
    encode: Encode,
    value: Callable[[list[tuple[str, str]], NDArray[np.float32]], NDArray[np.float64]],
    threshold: float,
    *,
    seed: int,
) -> Pool:
    """Return the pairs of each text with its nearest ones.

    Args:
        a_texts: texts of the first table.
        b_texts: texts of the second table; None to pair the first with itself.
        encode: returns vectors.
        value: returns the values of pairs, given their cosines.
        threshold: cosine around which pairs are wanted, if there are too many.
        seed: of the draw of texts and pairs.

    Raises:
        InvalidPairsError: there are fewer than two distinct texts.
    """
    random = np.random.default_rng(seed)
    left = _distinct(a_texts)
    right = left if b_texts is None else _distinct(b_texts)
    if not left or len(right) < 2:
        raise InvalidPairsError("labelling needs at least two distinct texts that are not blank")
    vectors_a = encode(left)
    vectors_b = vectors_a if b_texts is None else encode(right)
    queries = np.sort(random.permutation(len(left))[:_QUERIES])
    rows, columns, cosines = _nearest(vectors_a, vectors_b, queries, itself=b_texts is None)
    if len(rows) > _LARGEST:
        near = np.argsort(np.abs(cosines - threshold), kind="stable")[: _LARGEST // 2]
        chosen = np.union1d(near, random.permutation(len(rows))[: _LARGEST // 2])
        rows, columns, cosines = rows[chosen], columns[chosen], cosines[chosen]
    pairs = [(left[i], right[j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)]
    values = value(pairs, cosines)
    return Pool([a for a, _ in pairs], [b for _, b in pairs], values, vectors_a[rows], vectors_b[columns])


def _distinct(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _nearest(
    left: NDArray[np.float32], right: NDArray[np.float32], queries: NDArray[np.int64], *, itself: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return rows, columns and cosines of the nearest neighbours, each pair once."""
    count = min(_NEIGHBOURS, right.shape[0] - itself)
    found = []
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        cosines = left[block] @ right.T
        if itself:
            cosines[np.arange(len(block)), block] = -2
        best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        rows = np.repeat(block, count)
        columns = best.ravel()
        if itself:
            rows, columns = np.minimum(rows, columns), np.maximum(rows, columns)
        found.append(np.stack([rows, columns]))
    rows, columns = np.unique(np.concatenate(found, axis=1), axis=1)
    return rows, columns, (left[rows] * right[columns]).sum(axis=1)
