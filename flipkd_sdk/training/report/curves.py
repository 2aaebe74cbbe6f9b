"""Charts of the training over its steps: development pairs, validation texts, loss terms."""

from __future__ import annotations

from collections import defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from flipkd_sdk.pages.charts import Line, axis_over, line_chart, log_axis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flipkd_sdk.pages.html import Html

    Records = Sequence[Mapping[str, Any]]
    """Lines of ``metrics.jsonl``."""

_VALIDATION = {"validation_cosine": "mean cosine", "validation_overlap": "overlap of the 10 nearest texts"}
_TERMS = ("similarity", "alignment", "mcl", "cosent", "label_lm")


def training_charts(records: Records) -> Iterator[Html]:
    """Yield a chart of each kind of record; there are none if no stage had an epoch."""
    offset = _offsets(records)
    measured: dict[str, list[tuple[float, float]]] = defaultdict(list)
    agreement: dict[str, list[tuple[float, float]]] = defaultdict(list)
    losses: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        step = offset[record["stage"]] + record["step"]
        if "average_precision" in record:
            measured[f"{record['stage']} stage"].append((step, record["average_precision"]))
        for name, label in _VALIDATION.items():
            if name in record:
                agreement[label].append((step, record[name]))
        for term in _TERMS:
            if term in record:
                losses[term].append((step, record[term]))
    for title, label, axis, curves in (
        ("Average precision on the development pairs", "average precision", axis_over, measured),
        ("Agreement with the teacher on the validation texts", "agreement", axis_over, agreement),
        ("Loss terms", "loss (logarithmic)", log_axis, losses),
    ):
        points = [point for curve in curves.values() for point in curve]
        if points:
            steps, values = zip(*points, strict=True)
            lines = [Line(name, curve, dots=curves is not losses) for name, curve in curves.items()]
            yield line_chart(title, axis_over("training step", [0, *steps]), axis(label, values), lines)


def _offsets(records: Records) -> dict[str, int]:
    """Return how many steps the stages before each stage have."""
    last: dict[str, int] = {}
    for record in records:
        last[record["stage"]] = max(last.get(record["stage"], 0), record["step"])
    return dict(zip(last, accumulate(last.values(), initial=0), strict=False))
