"""Behaviour of a matcher on pairs of known kinds: pass rates with failed examples.

After CheckList: Ribeiro, Wu, Guestrin and Singh, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList",
ACL 2020. A non-match passes if its probability is below the threshold, a match if it is at or above it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.evaluation.metrics import average_precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from flipkd_sdk.contrast import ContrastPair

_LONGEST_EXAMPLE = 100


@dataclass(frozen=True, slots=True)
class FailedPair:
    """Pair on the wrong side of the threshold."""

    text_a: str
    text_b: str
    probability: float


@dataclass(frozen=True, slots=True)
class KindBehaviour:
    """Pass rate of the pairs of one kind."""

    kind: str
    label: int
    """1 if the pairs are matches, 0 if they are not."""
    pairs: int
    passed: int
    failures: tuple[FailedPair, ...]
    """Failed pairs, the furthest from the threshold first."""

    @property
    def pass_rate(self) -> float:
        """Return the share of the pairs that pass."""
        return self.passed / self.pairs


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Pass rates by kind: first the non-matches, then the matches."""

    threshold: float
    kinds: tuple[KindBehaviour, ...]
    average_precision: float | None
    """None if all pairs have one label."""

    @property
    def pairs(self) -> int:
        """Return the number of pairs."""
        return sum(kind.pairs for kind in self.kinds)

    @property
    def pass_rate(self) -> float:
        """Return the share of all pairs that pass."""
        return sum(kind.passed for kind in self.kinds) / self.pairs

    @property
    def lowest(self) -> KindBehaviour:
        """Return the kind with the lowest pass rate."""
        return min(self.kinds, key=lambda kind: kind.pass_rate)

    def pass_rate_of(self, label: int) -> float | None:
        """Return the share of the pairs with a label that pass, or None if there are none."""
        kinds = [kind for kind in self.kinds if kind.label == label]
        return sum(kind.passed for kind in kinds) / sum(kind.pairs for kind in kinds) if kinds else None

    def to_dict(self) -> dict[str, Any]:
        """Return all figures and examples, ready for JSON."""
        return {
            "threshold": self.threshold,
            "pairs": self.pairs,
            "pass_rate": self.pass_rate,
            "pass_rate_non_matches": self.pass_rate_of(0),
            "pass_rate_matches": self.pass_rate_of(1),
            "average_precision": self.average_precision,
            "kinds": [
                {
                    "kind": kind.kind,
                    "label": kind.label,
                    "pairs": kind.pairs,
                    "passed": kind.passed,
                    "pass_rate": kind.pass_rate,
                    "failures": [
                        {"text_a": pair.text_a, "text_b": pair.text_b, "probability": pair.probability}
                        for pair in kind.failures
                    ],
                }
                for kind in self.kinds
            ],
        }

    def table(self, *, examples: bool = True) -> str:
        """Return the figures as plain text, with a line for each failed example."""
        width = max(len("all pairs"), *(len(kind.kind) for kind in self.kinds))
        lines = [f"{'kind':<{width}}  expected   pairs  passed    rate"]
        for kind in self.kinds:
            expected = "match" if kind.label else "no match"
            lines.append(
                f"{kind.kind:<{width}}  {expected:<8}  {kind.pairs:>6}  {kind.passed:>6}  {kind.pass_rate:>6.1%}"
            )
            if examples:
                lines += [
                    f"  {pair.probability:.3f}  {_shortened(pair.text_a)} | {_shortened(pair.text_b)}"
                    for pair in kind.failures
                ]
        passed = sum(kind.passed for kind in self.kinds)
        lines.append(f"{'all pairs':<{width}}  {'':<8}  {self.pairs:>6}  {passed:>6}  {self.pass_rate:>6.1%}")
        return "\n".join(lines)


def check_behaviour(
    pairs: Sequence[ContrastPair],
    score: Callable[[list[tuple[str, str]]], ArrayLike],
    *,
    threshold: float,
    examples: int = 3,
) -> Behaviour:
    """Score pairs and return the pass rates by kind.

    Args:
        pairs: made by `contrast_pairs` from texts that were not trained on, or read by `read_contrast_pairs`.
        score: returns the match probability of each pair, such as ``matcher.score_pairs``.
        threshold: probability from which a pair counts as a match, such as ``matcher.threshold``.
        examples: most failed pairs that are kept of each kind.

    Raises:
        ConfigError: the threshold is outside [0, 1] or ``examples`` is negative.
        InvalidPairsError: there are no pairs, or the probabilities are not one finite number per pair.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold={threshold}: expected a probability in [0, 1]")
    if examples < 0:
        raise ConfigError(f"examples={examples}: expected 0 or more failed pairs of each kind")
    if not pairs:
        raise InvalidPairsError(
            "behaviour: no pairs to check; give texts with places for the changes, or a file of pairs"
        )
    probability = np.asarray(score([(pair.text_a, pair.text_b) for pair in pairs]), np.float64)
    if probability.shape != (len(pairs),) or not np.isfinite(probability).all():
        raise InvalidPairsError(
            f"behaviour: {len(pairs)} pairs have scores of shape {probability.shape}; expected one finite number each"
        )
    labels = np.array([pair.label for pair in pairs], np.int8)
    groups: dict[tuple[int, str], list[int]] = {}
    for i, pair in enumerate(pairs):
        groups.setdefault((pair.label, pair.kind), []).append(i)
    kinds = []
    for (label, kind), members in sorted(groups.items()):
        failed = [i for i in members if (probability[i] >= threshold) != bool(label)]
        failed.sort(key=lambda i: -math.fabs(probability[i] - threshold))
        failures = tuple(FailedPair(pairs[i].text_a, pairs[i].text_b, float(probability[i])) for i in failed[:examples])
        kinds.append(KindBehaviour(kind, label, len(members), len(members) - len(failed), failures))
    both = 0 < int(labels.sum()) < len(labels)
    return Behaviour(float(threshold), tuple(kinds), average_precision(probability, labels) if both else None)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_EXAMPLE else line[: _LONGEST_EXAMPLE - 1] + "…"
