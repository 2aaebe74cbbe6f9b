"""``report.html``: one self-contained file that says what a run found, verdict first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

from flipkd_sdk.atomic import write_text
from flipkd_sdk.evaluation.plots import COLOURS, draw_precision_recall, draw_reliability, draw_scores, picture
from flipkd_sdk.training.report.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.data.noise_filter import NoiseFilter
    from flipkd_sdk.training.data.splits import TrainingData
    from flipkd_sdk.training.evaluation import Evaluation
    from flipkd_sdk.training.run_directory import RunResult

_EXAMPLES = 8
_SIZE = (5.2, 3.4)
_MEASURES = ("average_precision", "roc_auc", "spearman", "f1", "precision", "recall", "accuracy", "calibration_error")


@dataclass(frozen=True, slots=True)
class Example:
    """A pair for a person to judge."""

    a: str
    b: str
    score: float | None = None
    """What the student says of it, where that is the point."""


def write_report(
    path: Path,
    config: TrainConfig,
    result: RunResult,
    systems: Mapping[str, Evaluation],
    records: Sequence[Mapping[str, Any]],
    data: TrainingData,
    noise: NoiseFilter,
    mined: Pairs,
) -> None:
    """Render the report: verdict, systems with intervals, curves, errors, filter examples, retrieval, configuration."""
    split = "test" if result.pairs["test"] else "dev"
    template = files("flipkd_sdk.training.report").joinpath("report.html.jinja").read_text(encoding="utf-8")
    html = (
        jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        .from_string(template)
        .render(
            split=split,
            verdict=verdict(systems, split),
            result=result,
            measures=_MEASURES,
            figures=_figures(systems, records, split),
            errors=_hardest_errors(systems["student"], data.dev),
            noise=noise,
            dropped={
                value: _examples(data.train, noise.dropped(data.train.label, value)[:_EXAMPLES]) for value in (1, 0)
            },
            mined=_examples(mined, np.arange(min(len(mined), _EXAMPLES))),
            config=config.model_dump_json(indent=2),
        )
    )
    write_text(path, html)


def _examples(pairs: Pairs, rows: NDArray[np.intp], scores: NDArray[np.float32] | None = None) -> list[Example]:
    return [Example(pairs.a[i], pairs.b[i], None if scores is None else float(scores[i])) for i in rows]


def _hardest_errors(student: Evaluation, dev: Pairs) -> dict[str, list[Example]]:
    """The wrongly decided development pairs of which the student is most sure; test pairs are not for learning from."""
    probability = student.scored("student", "dev").probability
    taken = probability.astype(np.float64) >= student.calibration.threshold
    false, missed = np.flatnonzero(taken & (dev.label == 0)), np.flatnonzero(~taken & (dev.label == 1))
    worst = {
        "False matches": false[np.argsort(-probability[false], kind="stable")],
        "Missed matches": missed[np.argsort(probability[missed], kind="stable")],
    }
    return {kind: _examples(dev, rows[:_EXAMPLES], probability) for kind, rows in worst.items()}


def _figures(systems: Mapping[str, Evaluation], records: Sequence[Mapping[str, Any]], split: str) -> dict[str, str]:
    scored = [system.scored(name, split) for name, system in systems.items()]
    student = systems["student"]
    threshold = student.calibration.threshold
    drawn: dict[str, Callable[[Axes], None]] = {
        "Average precision on the development split, by epoch": lambda axes: _draw_epochs(axes, records),
        "Loss terms over the steps": lambda axes: _draw_losses(axes, records),
        f"Precision and recall on the {split} split": lambda axes: draw_precision_recall(axes, scored),
        f"Share of matches among {split} pairs of a score: what is calibrated lies on the diagonal": (
            lambda axes: draw_reliability(axes, scored)
        ),
        f"Scores of the student on the {split} split": (
            lambda axes: draw_scores(axes, student.scored("student", split), threshold)
        ),
    }
    return {caption: picture(draw, size=_SIZE) for caption, draw in drawn.items()}


def _draw_losses(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    offset = _stage_offsets(records)
    for record in records:
        for term in ("similarity", "alignment", "mcl", "cosent", "label_lm"):
            if term in record:
                curves[term].append((offset[record["stage"]] + record["step"], record[term]))
    for colour, (term, points) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(*zip(*points, strict=True), label=term, color=colour)
    axes.set_xlabel("step")
    if curves:
        axes.set_yscale("log")


def _draw_epochs(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    offset = _stage_offsets(records)
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for record in records:
        if "average_precision" in record:
            points[record["stage"]].append((offset[record["stage"]] + record["step"], record["average_precision"]))
    for colour, (stage, curve) in zip(COLOURS, points.items(), strict=False):
        axes.plot(*zip(*curve, strict=True), "o-", label=stage, color=colour)
    axes.set_xlabel("step")


def _stage_offsets(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    last: dict[str, int] = {}
    for record in records:
        last[record["stage"]] = max(last.get(record["stage"], 0), record["step"])
    offsets, total = {}, 0
    for stage, steps in last.items():
        offsets[stage] = total
        total += steps
    return offsets
