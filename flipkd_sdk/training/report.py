"""``report.html``: one self-contained file that says what a run found, verdict first."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from flipkd_sdk import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config import TrainConfig
    from flipkd_sdk.training.evaluation import Evaluation
    from flipkd_sdk.training.noise_filter import NoiseFilter
    from flipkd_sdk.training.run_directory import RunResult

_EXAMPLES = 8
_COLOURS = ("#8a8f98", "#2a6fdb", "#d1495b", "#3a9d5d", "#8e5ea2", "#c98a1b")
_MEASURES = ("accuracy", "precision", "recall", "f1", "average_precision", "roc_auc", "calibration_error")


@dataclass(frozen=True, slots=True)
class FilterExample:
    """A pair for a person to judge: one that the noise filter left out, or one that was mined."""

    a: str
    b: str
    label: int


def write_report(
    path: Path,
    config: TrainConfig,
    result: RunResult,
    systems: Mapping[str, Evaluation],
    records: Sequence[Mapping[str, Any]],
    train: Pairs,
    noise: NoiseFilter,
    mined: Pairs,
) -> None:
    """Render the report: table of systems, curves, filter counts with examples, and the whole configuration."""
    split = "test" if result.pairs["test"] else "dev"
    template = files("flipkd_sdk.training").joinpath("report.html.jinja").read_text(encoding="utf-8")
    html = (
        jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        .from_string(template)
        .render(
            split=split,
            verdict=_verdict(result, split),
            result=result,
            measures=_MEASURES,
            figures=_figures(systems, records, split),
            noise=noise,
            dropped=_dropped(train, noise),
            mined=[FilterExample(a, b, 0) for a, b in zip(mined.a[:_EXAMPLES], mined.b[:_EXAMPLES], strict=True)],
            config=config.model_dump_json(indent=2),
        )
    )
    path.write_text(html, encoding="utf-8")


def _verdict(result: RunResult, split: str) -> str:
    student = result.measures["student"][split]["average_precision"]
    if "teacher" not in result.measures:
        return (
            f"On the {split} split the student reaches an average precision of {student:.3f}; no teacher was measured."
        )
    teacher = result.measures["teacher"][split]["average_precision"]
    relation = "above" if student >= teacher else "below"
    return (
        f"On the {split} split the student reaches an average precision of {student:.3f}, "
        f"{abs(student - teacher):.3f} {relation} its teacher's {teacher:.3f}."
    )


def _dropped(train: Pairs, noise: NoiseFilter) -> dict[int, list[FilterExample]]:
    return {
        value: [FilterExample(train.a[i], train.b[i], value) for i in noise.dropped(train.label, value)[:_EXAMPLES]]
        for value in (1, 0)
    }


def _figures(systems: Mapping[str, Evaluation], records: Sequence[Mapping[str, Any]], split: str) -> dict[str, str]:
    return {
        "Loss terms over the steps": _figure(lambda axes: _plot_losses(axes, records)),
        "Average precision on the development split, by epoch": _figure(lambda axes: _plot_epochs(axes, records)),
        f"Precision and recall on the {split} split": _figure(lambda axes: _plot_curves(axes, systems, split)),
        **{
            f"Scores of the {name} on the {split} split": _figure(
                lambda axes, system=system: _plot_histogram(axes, system, split)  # type: ignore[misc]
            )
            for name, system in systems.items()
        },
    }


def _plot_losses(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    offset = _stage_offsets(records)
    for record in records:
        for term in ("similarity", "alignment", "mcl", "cosent", "label_lm"):
            if term in record:
                curves[term].append((offset[record["stage"]] + record["step"], record[term]))
    for colour, (term, points) in zip(_COLOURS[1:], curves.items(), strict=False):
        axes.plot(*zip(*points, strict=True), label=term, color=colour)
    axes.set_xlabel("step")
    if curves:
        axes.set_yscale("log")
        axes.legend(frameon=False)


def _plot_epochs(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    offset = _stage_offsets(records)
    points = [(offset[r["stage"]] + r["step"], r["average_precision"]) for r in records if "average_precision" in r]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", color=_COLOURS[1])
    axes.set_xlabel("step")


def _plot_curves(axes: Axes, systems: Mapping[str, Evaluation], split: str) -> None:
    for colour, (name, system) in zip(_COLOURS, systems.items(), strict=False):
        precision, recall = metrics.precision_recall_curve(system.cosines[split], system.labels[split])
        axes.plot(recall, precision, label=name, color=colour)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.legend(frameon=False)


def _plot_histogram(axes: Axes, system: Evaluation, split: str) -> None:
    cosines, labels = system.cosines[split], system.labels[split]
    bins = np.linspace(min(float(cosines.min()), 0.0), 1.0, 41).tolist()
    for value, name, colour in ((0, "label 0", _COLOURS[0]), (1, "label 1", _COLOURS[1])):
        axes.hist(cosines[labels == value], bins=bins, alpha=0.6, label=name, color=colour)
    axes.set_xlabel("score")
    axes.legend(frameon=False)


def _stage_offsets(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    last: dict[str, int] = {}
    for record in records:
        last[record["stage"]] = max(last.get(record["stage"], 0), record["step"])
    offsets, total = {}, 0
    for stage, steps in last.items():
        offsets[stage] = total
        total += steps
    return offsets


def _figure(plot: Callable[[Axes], None]) -> str:
    """Draw on fresh axes and return the picture as a data URI."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    plot(axes)
    stream = io.BytesIO()
    figure.savefig(stream, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
