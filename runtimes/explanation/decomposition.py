"""Exact decomposition of a cosine into contributions of token pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


def token_shares(parts: NDArray[np.float32], vector: Vector) -> tuple[NDArray[np.float64], float]:
    """Divide a text's unit vector among its tokens.

    Args:
        parts: A·h of each token, shape (n, d).
        vector: the unit vector that the model returned, shape (d,).

    Returns:
        Shares that add up to ``vector``, shape (n, d), and the distance of the normalized sum of ``parts`` from it.
        That distance is rounding, and all tokens share it equally.
    """
    exact = parts.astype(np.float64)
    total = exact.sum(axis=0)
    shares = exact / max(float(np.linalg.norm(total)), 1e-12)
    rest = vector - shares.sum(axis=0)
    return shares + rest / len(parts), float(np.linalg.norm(rest))


def contributions(
    a: NDArray[np.float64], b: NDArray[np.float64], background: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return the contributions of token pairs, and the baseline.

    With unit vectors a, b and a background m, a·b = (a − m)·(b − m) + (a·m + b·m − m·m). The second term is the
    baseline: what two texts of the domain share anyway. In the first one, each token of a text of n tokens takes over
    m/n.

    Args:
        a: token shares of one text, shape (n, d).
        b: token shares of the other text, shape (m, d).
        background: mean vector of texts of the domain, shape (d,); zeros for none.

    Returns:
        Contributions of shape (n, m) and the baseline; together they add up to the cosine.
    """
    baseline = float(a.sum(axis=0) @ background + b.sum(axis=0) @ background - background @ background)
    return (a - background / len(a)) @ (b - background / len(b)).T, baseline


def merged(values: NDArray[np.float64], rows: list[int], columns: list[int]) -> NDArray[np.float64]:
    """Add up the values of groups that begin at the given rows and columns."""
    summed: NDArray[np.float64] = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    return summed
