"""Cosines of unit vectors, computed so that a pair gets the same number in any batch.

A matrix product may sum one row in another order than many rows. The products of a pair are therefore summed row by
row in float64: numpy's pairwise summation of a contiguous row depends on that row alone. A whole matrix of cosines
would be slow that way. It takes a matrix product in float64 instead, whose order changes the 16th digit at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_BLOCK_NUMBERS = 1 << 20
"""Largest number of float64 values in a block of intermediate results: 8 MiB."""


def pair_cosines(vectors: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the cosine of ``vectors[a[i]]`` and ``vectors[b[i]]`` for each i.

    Args:
        vectors: unit vectors, shape (distinct, d).
        a: row indices, shape (n,).
        b: row indices, shape (n,).

    Returns:
        Shape (n,).
    """
    return row_cosines(vectors, a, vectors, b)


def row_cosines(
    left: NDArray[np.float32], a: NDArray[np.int64], right: NDArray[np.float32], b: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the cosine of ``left[a[i]]`` and ``right[b[i]]`` for each i, shape (n,)."""
    cosines = np.empty(len(a), dtype=np.float32)
    for block in _blocks(len(a), left.shape[1]):
        cosines[block] = (left[a[block]].astype(np.float64) * right[b[block]]).sum(axis=1)
    return cosines


def matrix_blocks(a: NDArray[np.float32], b: NDArray[np.float32]) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Compute the cosine of every row of ``a``, shape (n, d), with every row of ``b``, shape (m, d).

    Yields:
        Rows, columns and their cosines, block by block, so that memory stays bounded.
    """
    for columns in _blocks(len(b), b.shape[1]):
        right = np.ascontiguousarray(b[columns].astype(np.float64).T)
        for rows in _blocks(len(a), max(a.shape[1], right.shape[1])):
            yield rows, columns, (a[rows].astype(np.float64) @ right).astype(np.float32)


def _blocks(count: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK_NUMBERS // width)
    return (slice(start, start + step) for start in range(0, count, step))
