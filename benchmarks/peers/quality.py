"""Quality of a system on the test pairs, with the threshold from the development pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.bootstrap import bootstrap_intervals
from flipkd_sdk.evaluation.calibration import choose_threshold
from flipkd_sdk.evaluation.metrics import at_threshold, average_precision

if TYPE_CHECKING:
    from peers.scheduler import Measured
    from peers.workloads import Workloads


def quality(one: Measured, work: Workloads) -> dict[str, object]:
    """Return average precision with its 95% interval, F1, and the top-1 accuracy of the FAQ."""
    dev, test = one.dev_scores, one.test_scores
    if dev is None or test is None:
        dev, test = (
            np.array([one.vectors[a] @ one.vectors[b] for a, b in zip(pairs.a, pairs.b, strict=True)])
            for pairs in (work.dev, work.test)
        )
    interval = bootstrap_intervals(
        lambda score, label: {"average_precision": average_precision(score, label)}, test, work.test.label
    )["average_precision"]
    rounds = len(one.nearest_seconds)
    order = [i for part in range(rounds) for i in range(part, len(work.queries), rounds)]
    return {
        "average_precision": average_precision(test, work.test.label),
        "average_precision_interval": [interval.low, interval.high],
        "f1": at_threshold(test, work.test.label, choose_threshold(dev, work.dev.label))["f1"],
        "faq_top1": float(np.mean([found in work.best[i] for i, found in zip(order, one.nearest, strict=True)])),
    }
