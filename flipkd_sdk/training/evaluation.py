"""Quality of an encoder on pairs: cosines, calibration on the development split, measures on both splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk import calibration, metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.calibration import Calibration
    from flipkd_sdk.pairs import Pairs

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]
    """n texts → unit vectors (n, d)."""
    Score = Callable[[Pairs], NDArray[np.float32]]
    """n pairs → scores (n,), higher for closer texts."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One system on the development split and, where there is one, the test split."""

    calibration: Calibration
    cosines: dict[str, NDArray[np.float32]]
    """By split; of the decoder path the probability of its "yes"."""
    labels: dict[str, NDArray[np.integer]]
    measures: dict[str, dict[str, float]]
    """By split: those of `flipkd_sdk.metrics.summary`."""


def pair_cosines(encode: Encode, pairs: Pairs) -> NDArray[np.float32]:
    """Cosine of each pair, float32 (n,); each distinct text is encoded once."""
    texts = pairs.texts
    position = {text: i for i, text in enumerate(texts)}
    vectors = encode(texts)
    a, b = (vectors[[position[text] for text in side]] for side in (pairs.a, pairs.b))
    return np.einsum("ij,ij->i", a, b)  # type: ignore[no-any-return]


def average_precision(encode: Encode, pairs: Pairs) -> float:
    """Average precision of the cosines of labelled pairs."""
    return metrics.average_precision(pair_cosines(encode, pairs), pairs.label)


def evaluate(encode: Encode, dev: Pairs, test: Pairs | None, *, objective: str) -> Evaluation:
    """Calibrate on the development pairs and measure on both splits.

    Raises:
        InvalidPairsError: the development pairs do not allow a calibration (see `flipkd_sdk.calibration.fit`).
    """
    return evaluate_scores(lambda pairs: pair_cosines(encode, pairs), dev, test, objective=objective)


def evaluate_scores(score: Score, dev: Pairs, test: Pairs | None, *, objective: str) -> Evaluation:
    """The same for anything that scores pairs, such as the decoder path.

    Raises:
        InvalidPairsError: as `evaluate`.
    """
    splits = {"dev": dev} | ({"test": test} if test is not None else {})
    cosines = {name: score(pairs) for name, pairs in splits.items()}
    fitted = calibration.fit(cosines["dev"], dev.label, objective=objective)
    measures = {
        name: metrics.summary(fitted.probability(cosines[name]), pairs.label, fitted.threshold)
        for name, pairs in splits.items()
    }
    return Evaluation(fitted, cosines, {name: pairs.label for name, pairs in splits.items()}, measures)
