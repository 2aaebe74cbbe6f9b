"""The dual-threshold noise filter: the label terms leave out labelled pairs that the teacher contradicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flipkd_sdk.training.config.schema import NoiseFilterConfig


@dataclass(frozen=True, slots=True, eq=False)
class NoiseFilter:
    """Selection of the pairs for the label terms; L_dist uses all pairs."""

    keep: NDArray[np.bool_]
    """True for pairs of the label terms, shape (n,)."""
    positive_floor: float
    """Teacher cosine below which positives were dropped; −1 drops none."""
    negative_ceiling: float
    """Teacher cosine above which negatives were dropped; 1 drops none."""

    def dropped(self, label: NDArray[np.integer], value: int) -> NDArray[np.intp]:
        """Return the rows of the dropped pairs of one label."""
        return np.flatnonzero(~self.keep & (label == value))


def filter_noise(
    teacher_cosine: NDArray[np.floating] | None, label: NDArray[np.integer], config: NoiseFilterConfig
) -> NoiseFilter:
    """Apply the two thresholds, given as values or as quantiles of their class.

    Args:
        teacher_cosine: the teacher's cosine of each pair, shape (n,); None, without a teacher, keeps all.
        label: 1 for a match, 0 for none, shape (n,).
        config: the thresholds.

    Raises:
        ConfigError: the thresholds leave no pair of one of the labels.
    """
    if teacher_cosine is None:
        return NoiseFilter(np.ones(len(label), dtype=bool), -1.0, 1.0)
    floor, ceiling = config.positive_floor, config.negative_ceiling
    if floor is None:
        quantile = config.positive_quantile
        floor = float(np.quantile(teacher_cosine[label == 1], quantile)) if quantile > 0 else -1.0
    if ceiling is None:
        quantile = config.negative_quantile
        ceiling = float(np.quantile(teacher_cosine[label == 0], quantile)) if quantile < 1 else 1.0
    # Rounding can lift the cosine of two equal texts above 1.
    cosine = np.clip(teacher_cosine, -1.0, 1.0)
    keep = np.where(label == 1, cosine >= floor, cosine <= ceiling)
    for value, option in ((1, "positive_floor"), (0, "negative_ceiling")):
        if not np.any(keep & (label == value)):
            raise ConfigError(f"noise_filter.{option} drops every training pair with label {value}; relax it")
    return NoiseFilter(keep, floor, ceiling)
