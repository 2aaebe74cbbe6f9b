"""Verification of a variant at export: its drift, measured through the public `Matcher`, and its limits."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact.limits import PAIRS_ALONE, Limits
from flipkd_sdk.errors import ConfigError, VerificationError
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.verification import measured_drift

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Drift
    from flipkd_sdk.pairs import Pairs


def widen(limits: Mapping[str, Limits], wider: Mapping[str, float]) -> dict[str, Limits]:
    """Return limits with some replaced, named as in ``int8.max_cosine_change``.

    Raises:
        ConfigError: a name is unknown, or a value is not a number.
    """
    result = dict(limits)
    known = [f"{precision}.{field.name}" for precision in limits for field in fields(Limits)]
    for name, value in wider.items():
        if name not in known:
            raise ConfigError(f"unknown limit {name!r}; there are: {', '.join(known)}")
        if math.isnan(value):
            raise ConfigError(f"limit {name}: nan is not a number; give a number")
        precision, _, field = name.partition(".")
        result[precision] = replace(result[precision], **{field: value})
    return result


def measure_drift(directory: Path, precision: str, pairs: Pairs, reference: NDArray[np.float32]) -> Drift:
    """Return the drift of one variant on labelled pairs, measured on this machine's CPU.

    Args:
        directory: matcher directory.
        precision: precision of the variant.
        pairs: labelled pairs.
        reference: cosine of each pair by the reference, shape (n,).
    """
    with Matcher.load(directory, precision=precision, device="cpu", on_truncate="ignore", on_blank="score") as matcher:
        cosine = encoder_cosines(matcher.encode, pairs)
        calibration = matcher.manifest.calibration
        first_pairs = list(zip(pairs.a, pairs.b, strict=True))[:PAIRS_ALONE]
        alone = np.array([matcher.score(a, b) for a, b in first_pairs], dtype=np.float32)
        batched = matcher.score_pairs(first_pairs)
        reversed_ = matcher.score_pairs(first_pairs[::-1])[::-1]
    moved = float(np.maximum(np.abs(alone - batched), np.abs(alone - reversed_)).max())
    return measured_drift(cosine, reference, pairs.label, calibration, moved)


def violations(drift: Drift, limits: Limits) -> list[str]:
    """Return the exceeded limits, each with its figure; empty within all limits."""
    broken = []
    if not drift.spearman >= limits.spearman:
        broken.append(f"spearman {drift.spearman:.5f} < {limits.spearman}")
    for name in ("max_cosine_change", "average_precision_change", "alone_vs_batched"):
        value, limit = abs(getattr(drift, name)), getattr(limits, name)
        if not value <= limit:
            broken.append(f"{name} {value:.2g} > {limit:g}")
    return broken


def enforce(precision: str, drift: Drift, limits: Limits) -> None:
    """Raise if a variant exceeds its limits.

    Raises:
        VerificationError: a limit is exceeded; the message contains the figures and the options to accept them.
    """
    if broken := violations(drift, limits):
        names = " ".join(f"--limit {precision}.{line.split()[0]}=VALUE" for line in broken)
        raise VerificationError(
            f"the {precision} variant is outside its limits: {'; '.join(broken)}; to accept: {names}"
        )
