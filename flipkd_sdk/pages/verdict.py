"""Sentences that conclude from the measures of one matcher, and its key figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flipkd_sdk.evaluation.bootstrap import Interval, Measured

_WIDE = 0.1
"""Width of a 95% interval of average precision from which more pairs are needed to compare systems."""
_CALIBRATED = 0.05
"""Largest calibration error with which scores are read as probabilities."""


def headline(name: str, measured: Measured, matches: float) -> str:
    """Return one sentence: right decisions in 100 pairs, or that one answer for all pairs is as good.

    Args:
        name: name of the matcher.
        measured: measures of `flipkd_sdk.evaluation.metrics.summary`.
        matches: share of the pairs that are matches.
    """
    accuracy, interval = measured.values["accuracy"], measured.intervals.get("accuracy")
    low = accuracy if interval is None else interval.low
    if low <= max(matches, 1 - matches):
        return f"These pairs do not show that {name} is better than one answer for all pairs."
    shown = 100 if accuracy == 1 else min(round(100 * accuracy), 99)
    return f"{name} decides {shown} of 100 pairs correctly."


def decisions(measured: Measured, matches: float) -> Iterator[str]:
    """Yield what the decisions and scores are worth.

    Args:
        measured: measures of `flipkd_sdk.evaluation.metrics.summary`.
        matches: share of the pairs that are matches.
    """
    values = measured.values
    chance = max(matches, 1 - matches)
    accuracy = _between(measured.intervals.get("accuracy"))
    yield (
        f"It decides {values['accuracy']:.1%} of the pairs correctly{accuracy}. One answer for all pairs, "
        f"{'match' if matches > 1 / 2 else 'no match'}, would be right on {chance:.1%}."
    )
    yield (
        f"Of the pairs that it calls a match, {values['precision']:.1%} are matches. It finds {values['recall']:.1%} "
        "of all matches."
    )
    error = values["calibration_error"]
    off = f"on average they differ by {100 * error:.1f} percentage points from the share of matches"
    if error <= _CALIBRATED:
        yield f"Scores can be read as probabilities of a match: {off}."
    else:
        yield f"Scores cannot be read as probabilities on these pairs: {off}."


def caution(measured: Measured) -> Iterator[str]:
    """Yield a warning if the pairs are too few."""
    interval = measured.intervals.get("average_precision")
    if interval is not None and interval.high - interval.low > _WIDE:
        yield "The pairs are too few for precise figures: label more before you rely on them."


def key_figures(measured: Measured) -> list[tuple[str, str, str]]:
    """Return value, meaning and interval of the figures for `flipkd_sdk.pages.parts.tiles`."""
    names = {
        "accuracy": "of the pairs are decided correctly",
        "precision": "of the pairs called a match are matches",
        "recall": "of the matches are found",
    }
    return [
        (f"{measured.values[name]:.1%}", meaning, _bounds(measured.intervals.get(name)))
        for name, meaning in names.items()
    ]


def _between(interval: Interval | None) -> str:
    bounds = _bounds(interval)
    return f" (95% interval {bounds})" if bounds else ""


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None or math.isnan(interval.low) else f"{interval.low:.1%} to {interval.high:.1%}"
