"""Figures from results files: systems by set, ablations against their base, students against teachers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from experiments.plan import RUNS

from flipkd_sdk.evaluation.bootstrap import precision_gain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from experiments.plan import Run
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

AP = "average_precision"


@dataclass(frozen=True)
class Finished:
    """A run and its results file."""

    run: Run
    record: dict[str, Any]

    @property
    def minutes(self) -> float:
        """Return the duration of the training in minutes."""
        return float(sum(self.record["result"]["seconds"].values())) / 60

    @property
    def cpus(self) -> int:
        """Return the CPUs of the machine, from the record of this or of an older release."""
        return int((self.record.get("environment") or self.record["machine"])["cpus"])

    def scores(self, system: str) -> Scores:
        """Return the scores of the test pairs, shape (n,)."""
        return np.array(self.record["scores"][system].split(), np.float64)

    @property
    def labels(self) -> NDArray[np.int8]:
        """Return the labels of the test pairs, shape (n,)."""
        return np.array(self.record["scores"]["label"].split(), np.int8)

    def trained(self, system: str) -> dict[str, Any] | None:
        """Return the test and retrieval measures of a system with intervals, or None if the run lacks the system."""
        result = self.record["result"]
        if system not in result["measures"]:
            return None
        return {
            "measures": result["measures"][system]["test"] | result["retrieval"].get(system, {}),
            "intervals": result["intervals"][system]["test"] | result["retrieval_intervals"].get(system, {}),
        }


@dataclass(frozen=True)
class Estimate:
    """Values of a measure in several runs, with 95% intervals."""

    values: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """Return the mean over the runs."""
        return mean(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """Return the mean bounds over the runs."""
        return mean(low for low, _ in self.intervals), mean(high for _, high in self.intervals)


@dataclass(frozen=True)
class Row:
    """Measures of a system on a set, over all seeds."""

    data: str
    system: str
    measures: dict[str, Estimate]


@dataclass(frozen=True)
class Ablation:
    """An ablation and its difference to the base."""

    finished: Finished
    precision: Estimate
    gain: Estimate | None
    """Difference of average precision to the base; None for the base itself."""


def read_results(folder: Path, runs: Iterable[Run] = RUNS) -> list[Finished]:
    """Return the finished runs, in the order of the plan."""
    files = ((run, folder / f"{run.name}.json") for run in runs)
    return [Finished(run, json.loads(file.read_text(encoding="utf-8"))) for run, file in files if file.is_file()]


def comparison(finished: Sequence[Finished]) -> list[Row]:
    """Return the rows of teachers and students, set by set."""
    rows = []
    for data in dict.fromkeys(one.run.data for one in finished):
        students = _by_label(finished, data)
        flipped = students.get("flipped", [])
        scratch = any(one.record["config"]["teacher"]["from_scratch"] for one in flipped)
        systems = {
            "teacher as is": [one.trained("teacher as is") for one in flipped],
            f"teacher {'trained from scratch' if scratch else 'fine-tuned'}": [
                one.trained("teacher") for one in flipped
            ],
        }
        for label, same in students.items():
            systems[f"student, {label}"] = [one.trained("student") for one in same]
            systems[f"student, {label}, int8"] = [one.record["exported"].get("int8") for one in same]
        rows += [
            Row(data, system, _over_seeds(known))
            for system, found in systems.items()
            if (known := [*filter(None, found)])
        ]
    return rows


def _by_label(finished: Sequence[Finished], data: str) -> dict[str, list[Finished]]:
    """Return the runs of a set by label, labels only first."""
    runs = [one for one in finished if one.run.data == data and one.run.base is None]
    labels = sorted(dict.fromkeys(one.run.label for one in runs), key=lambda label: label != "labels only")
    return {label: [one for one in runs if one.run.label == label] for label in labels}


def _over_seeds(known: Sequence[dict[str, Any]]) -> dict[str, Estimate]:
    def measured(name: str) -> Estimate:
        intervals = ((low, high) for low, high in (one["intervals"][name] for one in known))
        return Estimate(tuple(one["measures"][name] for one in known), tuple(intervals))

    return {name: measured(name) for name in known[0]["measures"]}


def against_teachers(finished: Sequence[Finished]) -> Iterator[tuple[str, str, Estimate]]:
    """Yield set, system and gain of flipped students over their teachers."""
    for data in dict.fromkeys(one.run.data for one in finished):
        for label, same in _by_label(finished, data).items():
            for system, suffix in (("student", ""), ("student int8", ", int8")):
                if known := [one for one in same if {system, "teacher"} <= one.record["scores"].keys()]:
                    pairs = [(one.scores(system), one.scores("teacher")) for one in known]
                    yield data, f"student, {label}{suffix}", difference(pairs, known[0].labels)


def ablations(finished: Sequence[Finished], of: str) -> list[Ablation]:
    """Return the finished runs that are compared with a run, if that is finished."""
    by_name = {one.run.name: one for one in finished}
    rows = []
    for one in finished:
        base, found = by_name.get(of), one.trained("student")
        if one.run.base == of and base is not None and found is not None:
            scores = [(one.scores("student"), base.scores("student"))]
            gain = difference(scores, one.labels) if one is not base else None
            rows.append(Ablation(one, _over_seeds([found])[AP], gain))
    return rows


def difference(pairs: Sequence[tuple[Scores, Scores]], label: NDArray[np.int8]) -> Estimate:
    """Return the difference of average precision, mean over seeds, on the same resampled pairs.

    Args:
        pairs: for each seed the scores of both, each of shape (n,).
        label: shape (n,).
    """
    gain, interval = precision_gain(pairs, label)
    return Estimate((gain,), ((interval.low, interval.high),))
