"""Limits of verification: at export, when a matcher is opened on another machine, and in ``flipkd verify``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PAIRS_ALONE = 200
"""Pairs that are also scored one by one."""

_SCORE_CHANGE = 1e-6
_ROUNDED_SCORE_CHANGE = 1e-3
"""Float16 keeps three digits, and on CUDA the batch's shape selects the kernels."""

REFERENCE_DISTANCE = 0.01
"""Largest median distance from the reference vectors: a sixth of what overflow causes, and twenty times the effect of
storing them as float16."""

HEAD_CHANGE = 0.01
"""Largest median change of the pair head's scores of the self-test's pairs, which are stored as float16."""

FIGURES = {"average_precision": 0.005, "f1": 0.01}
"""Largest change of a figure from the manifest's. F1 jumps when a single pair crosses the threshold."""
SPEARMAN_LOSS = 0.1
"""Largest loss of a variant's rank correlation with the reference since export. Int8 that overflows loses over half."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest drift of a variant from its reference at export: torch for fp32, fp32 for all others."""

    spearman: float
    """Least rank correlation of the pairs' cosines."""
    max_cosine_change: float
    """Largest absolute change of a pair's cosine."""
    average_precision_change: float
    """Largest absolute change of the average precision."""
    alone_vs_batched: float = _SCORE_CHANGE
    """Largest absolute change of a score between alone, batched, and batched in reverse."""


LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(spearman=0.9999, max_cosine_change=1e-4, average_precision_change=1e-3),
    "fp16": Limits(0.9999, 0.005, 0.001, alone_vs_batched=_ROUNDED_SCORE_CHANGE),
    "int8": Limits(spearman=0.998, max_cosine_change=0.03, average_precision_change=0.002),
    "int4": Limits(spearman=0.98, max_cosine_change=0.15, average_precision_change=0.015),
}
"""Limits by precision. Students trained for a few minutes are just within those of int4, others far within."""


def score_change(device: str) -> float:
    """Return the largest change of a score with its batch on a device."""
    return _SCORE_CHANGE if device == "cpu" else _ROUNDED_SCORE_CHANGE
