"""Drift of a distribution: the population stability index against a stored histogram, and its value by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MODERATE, STRONG = 0.1, 0.25
"""Siddiqi's marks: below the first one a population is called stable, above the second one it has shifted."""

_MOST_BINS = 10
_VALUES_PER_BIN = 20
"""Fewer values in a bin would leave its share to chance."""
_CHANCE = 1.6449
"""Normal deviate that 5% exceed."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of values between edges; a bin contains its lower edge, and the last one both.

    Raises:
        ValueError: the arrays do not make a histogram.
    """

    edges: NDArray[np.float64]
    """The lowest value, inner edges and the highest value, shape (bins + 1,)."""
    counts: NDArray[np.int64]
    """Shape (bins,)."""

    def __post_init__(self) -> None:
        if self.edges.dtype != np.float64 or self.counts.dtype != np.int64:
            raise ValueError("edges that are not float64, or counts that are not int64")
        if self.edges.ndim != 1 or not 1 <= self.counts.size <= _MOST_BINS:
            raise ValueError(f"shapes {self.edges.shape} and {self.counts.shape} of a histogram")
        if self.edges.shape != (self.counts.size + 1,) or self.counts.shape != (self.counts.size,):
            raise ValueError(f"shapes {self.edges.shape} and {self.counts.shape} of a histogram")
        # Written so that NaN fails.
        if not (np.isfinite(self.edges).all() and (np.diff(self.edges) > 0).all()):
            raise ValueError("edges that do not rise")
        if not ((self.counts >= 0).all() and 0 < int(self.counts.sum()) <= 1 << 40):
            raise ValueError("counts that are negative, all 0 or too large")

    @property
    def size(self) -> int:
        """Return the number of values."""
        return int(self.counts.sum())

    def count(self, values: ArrayLike) -> NDArray[np.int64]:
        """Return the numbers of values below the lowest edge, in each bin, and above the highest edge."""
        values = np.asarray(values, np.float64)
        place = np.searchsorted(self.edges, values, side="right")
        place[values == self.edges[-1]] = self.counts.size
        return np.bincount(place, minlength=self.counts.size + 2).astype(np.int64)


def histogram(values: ArrayLike) -> Histogram:
    """Make a histogram of finite values, at least one, with about as many of them in each bin.

    A value that is as frequent as the values of a bin gets a bin of its own.
    """
    values = np.asarray(values, np.float64)
    bins = min(_MOST_BINS, max(1, values.size // _VALUES_PER_BIN))
    levels, times = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1), method="lower"), return_counts=True)
    edges = np.unique([*levels, *np.nextafter(levels[times > 1], np.inf)])
    empty = Histogram(edges, np.ones(edges.size - 1, np.int64))
    return Histogram(edges, empty.count(values)[1:-1])


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """Drift of one measure."""

    stored: Histogram
    counts: NDArray[np.int64]
    """Present values, as `Histogram.count` returns them."""

    @property
    def size(self) -> int:
        """Return the number of present values."""
        return int(self.counts.sum())

    @property
    def shares(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the stored and the present share below the lowest edge, in each bin and above the highest edge."""
        return np.pad(self.stored.counts, 1) / self.stored.size, self.counts / self.size

    @property
    def psi(self) -> float:
        """Return the population stability index."""
        return stability_index(np.pad(self.stored.counts, 1), self.counts)

    @property
    def outside(self) -> float:
        """Return the share of present values outside the stored range."""
        return float(self.counts[0] + self.counts[-1]) / self.size

    @property
    def chance(self) -> float:
        """Return the index that 5% of samples of this size exceed without any drift."""
        return _quantile(self.stored) * (1 / self.size + 1 / self.stored.size)

    def exceeds(self, limit: float) -> bool:
        """Return True if the index is above a limit and above what chance explains."""
        return self.psi > max(limit, self.chance)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
        stored, present = self.shares
        return {
            "psi": self.psi,
            "psi_by_chance": self.chance,
            "outside": self.outside,
            "values": self.size,
            "stored_values": self.stored.size,
            "edges": self.stored.edges.tolist(),
            "stored_shares": stored.tolist(),
            "shares": present.tolist(),
        }


def stability_index(stored: NDArray[np.int64], present: NDArray[np.int64]) -> float:
    """Return the population stability index of two samples' counts in the same bins.

    PSI = Σ (pᵢ − qᵢ) ln(pᵢ / qᵢ) with the shares qᵢ of the stored and pᵢ of the present sample: Siddiqi, "Credit Risk
    Scorecards", 2006, p. 136; it is the symmetric divergence of Jeffreys (1946). Half a value is added to each count,
    because the index of an empty bin is infinite.

    Args:
        stored: counts, shape (bins,).
        present: counts, shape (bins,).
    """
    q, p = ((counts + 0.5) / (counts.sum() + 0.5 * counts.size) for counts in (stored, present))
    return float(((p - q) * np.log(p / q)).sum())


def least_values(stored: Histogram, limit: float) -> int:
    """Return the number of values from which on chance alone rarely exceeds a limit.

    If the stored sample is too small for that, as many values as it has are enough: `Drift.chance` then decides.
    """
    per_value = limit / _quantile(stored) - 1 / stored.size
    return math.ceil(1 / max(per_value, 1 / stored.size))


def _quantile(stored: Histogram) -> float:
    """Return the 95% quantile of the index of equal populations, times nm / (n + m).

    It is that of chi-square with one degree of freedom less than bins: Yurdakul and Naranjo, "Statistical properties
    of the population stability index", Journal of Risk Model Validation 14(4), 2020. Approximated by Wilson and
    Hilferty's cube (1931), within 1%.
    """
    freedom = stored.counts.size + 1
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + _CHANCE * math.sqrt(spread)) ** 3)
