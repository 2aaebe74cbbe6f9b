"""The profile of a matcher's domain: histograms of texts and pairs held out from training, to compare later ones with.

Scores are stored as the numbers that the calibration maps to probabilities, so that a profile stays valid when
``flipkd calibrate`` changes that map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flipkd_sdk.arrays import read_arrays, write_arrays
from flipkd_sdk.evaluation.drift import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FILE = "profile.npz"
MAX_BYTES = 1 << 20
TEXT_MEASURES = ("length", "unknown", "similarity")
"""Measures of a text: its length in pieces, the share of unknown ones, and the similarity to the training texts."""
MEASURES = ("score", *TEXT_MEASURES)
_WHAT = "the profile of this matcher"


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Histograms by measure as edges and counts; those that were not measured are empty.

    Raises:
        ValueError: an array has another type or shape, or numbers that it cannot have.
    """

    known: NDArray[np.uint8]
    """One bit for each piece of the vocabulary: 1 if a training text contains it."""
    score_edges: NDArray[np.float64]
    score_counts: NDArray[np.int64]
    length_edges: NDArray[np.float64]
    length_counts: NDArray[np.int64]
    unknown_edges: NDArray[np.float64]
    unknown_counts: NDArray[np.int64]
    similarity_edges: NDArray[np.float64]
    similarity_counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.known.dtype != np.uint8 or self.known.ndim != 1:
            raise ValueError("known pieces that are not bits")
        if not self.histograms:
            raise ValueError("no histogram")

    @property
    def dimension(self) -> int:
        """Return the number of pieces that it has bits for."""
        return 8 * self.known.size

    @property
    def histograms(self) -> dict[str, Histogram]:
        """Return the histograms by measure, without those that were not measured."""
        arrays = {name: (getattr(self, f"{name}_edges"), getattr(self, f"{name}_counts")) for name in MEASURES}
        return {name: Histogram(*pair) for name, pair in arrays.items() if any(array.size for array in pair)}


def known_pieces(numbers: Iterable[int]) -> NDArray[np.uint8]:
    """Return one bit for each piece of a vocabulary, of which those with a number are known."""
    chosen = np.fromiter(numbers, np.int64)
    bits = np.zeros(int(chosen.max(initial=-1)) + 1, np.bool_)
    bits[chosen] = True
    return np.packbits(bits)


def unknown_share(known: NDArray[np.uint8], ids: NDArray[np.uint32]) -> float:
    """Return the share of a text's pieces, at least one, that are not known."""
    inside = ids[ids < 8 * known.size].astype(np.int64)
    bits = (known[inside >> 3] >> (7 - (inside & 7))) & 1
    return 1 - float(bits.sum()) / len(ids)


def make_profile(known: NDArray[np.uint8], histograms: Mapping[str, Histogram]) -> Profile:
    """Make a profile of known pieces and histograms by measure."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in MEASURES:
        found = histograms.get(name)
        arrays[f"{name}_edges"] = np.empty(0) if found is None else found.edges
        arrays[f"{name}_counts"] = np.empty(0, np.int64) if found is None else found.counts
    return Profile(known, **arrays)


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile; the same one gives the same bytes."""
    write_arrays(path, profile)


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        MatcherDirectoryError: the file is missing or malformed.
    """
    return read_arrays(Profile, path, what=_WHAT, largest=MAX_BYTES)
