"""Fit of a matcher's calibration to labelled pairs, with the measures before and after."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact.recalibration import with_calibration
from flipkd_sdk.cli.console import columns
from flipkd_sdk.cli.options import OFTEN
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation.calibration import check_enough_pairs, fit
from flipkd_sdk.runtimes.encoding.inputs import distinct_of_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.runtimes.matcher import Matcher

_FEW = 50
"""Pairs of a label below which the fit is rough."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A calibration and its measures on the pairs."""

    calibration: Calibration
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """A new calibration, and its comparison with the old one."""

    manifest: Manifest
    """The matcher's, with the new calibration."""
    before: Measured
    after: Measured
    pairs: int
    matches: int
    blank: int
    """Pairs with a blank text, which were left out."""
    share: float
    """Share of matches that the measures hold for."""
    ran: str
    warnings: tuple[str, ...]

    def text(self) -> str:
        """Return the comparison as a table."""
        before, after = self.before, self.after
        rows = [("", "before", "now"), ("objective", before.calibration.objective, after.calibration.objective)]
        for name in ("slope", "intercept", "threshold"):
            rows.append((name, f"{getattr(before.calibration, name):.4f}", f"{getattr(after.calibration, name):.4f}"))
        for name in ("precision", "recall", "f1"):
            rows.append((name, f"{before.measures[name]:.4f}", f"{after.measures[name]:.4f}"))
        blank = f"; {self.blank:,} more with a blank text left out" if self.blank else ""
        head = f"{self.pairs:,} pairs, {self.matches:,} of them matches{blank}; {self.ran}"
        share = f"precision, recall and F1 on these pairs, where {self.share:.3g} of all pairs match"
        return f"{head}\n\n{columns(rows, indent='  ')}\n\n{share}"

    def to_dict(self) -> dict[str, object]:
        """Return the comparison for JSON."""
        return {
            "pairs": self.pairs,
            "matches": self.matches,
            "blank": self.blank,
            "share_of_matches": self.share,
            "before": dataclasses.asdict(self.before),
            "now": dataclasses.asdict(self.after),
            "warnings": list(self.warnings),
        }


def recalibrate(matcher: Matcher, pairs: Pairs, *, objective: str, prior: float | None) -> Recalibrated:
    """Fit the calibration of a matcher to pairs.

    Args:
        matcher: the matcher, which is not changed.
        pairs: labelled pairs. Those with a blank text score 0 without a calibration and are left out.
        objective: goal of the threshold, see `fit`.
        prior: share of matches in use; None for that of the pairs.

    Raises:
        InvalidPairsError: the pairs have one label only, are too few for the objective, or their scores do not rise
            with the label.
        ConfigError: no threshold reaches the precision.
    """
    distinct = distinct_of_pairs(zip(pairs.a, pairs.b, strict=True))
    a, b = distinct.index[0::2], distinct.index[1::2]
    never = matcher.scorer.never_match(distinct.texts)
    kept = ~(never[a] | never[b])
    label = pairs.label[kept]
    if not len(label):
        raise InvalidPairsError("every pair has a blank text; give pairs with two texts")
    check_enough_pairs(label, objective=objective, prior=prior)
    # These do not depend on the calibration, so the same pairs give the same fit again.
    value = matcher.scorer.pair_values(distinct.texts, matcher.scorer.encode_pairs(distinct), a[kept], b[kept])
    calibration = fit(value, label, objective=objective, prior=prior)
    matches = int(label.sum())
    share = matches / len(label) if prior is None else prior
    return Recalibrated(
        manifest=with_calibration(matcher.manifest, calibration, head=matcher.has_head),
        before=_measured(matcher.pair_calibration, value, label, share),
        after=_measured(calibration, value, label, share),
        pairs=len(label),
        matches=matches,
        blank=len(pairs) - len(label),
        share=share,
        ran=f"{matcher.precision} on {matcher.device}",
        warnings=tuple(_warnings(matches, len(label) - matches, prior)),
    )


def _measured(calibration: Calibration, value: NDArray[np.float32], label: NDArray[np.int8], share: float) -> Measured:
    chosen = calibration.probability(value).astype(np.float64) >= calibration.threshold
    recall, false = float(chosen[label == 1].mean()), float(chosen[label == 0].mean())
    found = share * recall
    answered = found + (1 - share) * false
    precision = found / answered if answered else 0.0
    return Measured(calibration, {"precision": precision, "recall": recall, "f1": 2 * found / (answered + share)})


def _warnings(matches: int, others: int, prior: float | None) -> Iterator[str]:
    if min(matches, others) < _FEW:
        yield f"{matches:,} matches and {others:,} non-matches make a rough fit; label at least {_FEW} of each"
    share = matches / (matches + others)
    if prior is None and share > OFTEN:
        yield (
            f"the calibration holds where {share:.0%} of the pairs match, as here; in a search far fewer do, so fit "
            "its threshold with --search"
        )
    # One false match among these pairs then stands for more false matches than there are matches.
    if prior is not None and others * prior < 1 - prior:
        yield (
            f"{others:,} non-matches are too few to measure false matches where {prior:g} of all pairs match; "
            f"use at least {round((1 - prior) / prior):,}"
        )
