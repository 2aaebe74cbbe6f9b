"""Measurements of a trained run: scores of the test pairs, and the exported matcher."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from flipkd_sdk import Matcher
from flipkd_sdk.errors import VerificationError
from flipkd_sdk.evaluation import metrics
from flipkd_sdk.evaluation.bootstrap import summary_intervals
from flipkd_sdk.pairs import read_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def test_scores(directory: Path) -> dict[str, str]:
    """Return the labels and the test cosines of a finished run's student and fine-tuned teacher.

    On them two systems can be compared pair by pair. A list is one text, so that it is one line of the results file.
    """
    from flipkd_sdk.evaluation.encoders import encoder_cosines
    from flipkd_sdk.training.evaluate_models import encode_with
    from flipkd_sdk.training.models.committee import Committee
    from flipkd_sdk.training.models.sources import resolve
    from flipkd_sdk.training.models.teacher import load_teacher
    from flipkd_sdk.training.run_directory import read_run, trained_student

    run = read_run(directory)
    test = read_pairs(directory / "splits" / "test.csv")
    encoders: dict[str, Callable[[Sequence[str]], NDArray[np.float32]]] = {
        "student": partial(encode_with, *trained_student(run))
    }
    if (directory / "teacher").is_dir():
        # A committee has a directory for each member.
        places = [directory / "teacher"] if run.config.teacher.folds == 1 else sorted((directory / "teacher").iterdir())
        members = [load_teacher(resolve(str(place)), run.config.teacher.max_length) for place in places]
        encoders["teacher"] = Committee(tuple(members), {}).encode if len(members) > 1 else members[0].encode
    cosines = {name: _line(encoder_cosines(encode, test)) for name, encode in encoders.items()}
    return {"label": " ".join(map(str, test.label)), **cosines}


@dataclass(frozen=True)
class Exported:
    """Measurements of a run's student as a matcher."""

    variants: dict[str, Any] = field(default_factory=dict)
    """By precision: bytes of the file, measures of the test pairs and their 95% intervals."""
    scores: dict[str, str] = field(default_factory=dict)
    """Scores of the test pairs by system, a line each."""
    refused: str | None = None
    """Reason why there is no matcher."""


def measure_export(directory: Path) -> Exported:
    """Export a finished run beside its directory, unless it exists, and score the test pairs through `Matcher`."""
    from flipkd_sdk.exporters.export import ExportOptions, export

    exported = directory.with_name(f"{directory.name}-matcher")
    if not exported.is_dir():
        try:
            export(directory, exported, ExportOptions(variants=("int8", "fp32")))
        except VerificationError as error:
            return Exported(refused=str(error))
    test = read_pairs(directory / "splits" / "test.csv")
    variants, scores = {}, {}
    for precision in ("int8", "fp32"):
        with Matcher.load(exported, precision=precision, device="cpu", on_truncate="ignore") as matcher:
            score = matcher.score_pairs(zip(test.a, test.b, strict=True))
            intervals = summary_intervals(score, test.label, matcher.threshold)
            variants[precision] = {
                "bytes": matcher.manifest.variants[precision].bytes,
                "measures": metrics.summary(score, test.label, matcher.threshold),
                "intervals": {name: [interval.low, interval.high] for name, interval in intervals.items()},
            }
        scores[f"student {precision}"] = _line(score)
    return Exported(variants, scores)


def _line(values: NDArray[np.floating]) -> str:
    return " ".join(f"{value:.6f}" for value in np.asarray(values, np.float64))
