"""The run directory: what a training run leaves behind, and what export starts from.

It holds ``config.json``, ``splits/``, ``adapter/`` (a plain PEFT checkpoint), ``base/`` where the LLM was made smaller
first, ``teacher/`` where it was fine-tuned, ``metrics.jsonl``, ``report.html`` and, written last, ``result.json``: a
directory without it is not finished.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from flipkd_sdk.artifact.manifest import ModelReference  # noqa: TC001
from flipkd_sdk.atomic import check_directory, write_text
from flipkd_sdk.errors import ConfigError, TrainingError
from flipkd_sdk.evaluation.calibration import Calibration  # noqa: TC001 - pydantic reads the field types at run time
from flipkd_sdk.pairs import read_pairs
from flipkd_sdk.training.config.schema import TrainConfig
from flipkd_sdk.training.loop import checkpoints
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.student import load_student, load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.models.student import Student

Model = TypeVar("Model", bound=BaseModel)

CONFIG_FILE = "config.json"
RESULT_FILE = "result.json"
BASE = "base"
"""The smaller LLM that the student starts from, where there is one."""


class RunResult(BaseModel):
    """What a finished run found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sdk_version: str
    student: ModelReference
    teacher: ModelReference
    calibration: Calibration
    """The student's, fitted on the development split."""
    measures: dict[str, dict[str, dict[str, float]]]
    """By system (``teacher as is``, ``teacher``, ``student``, ``student's answer``), then by split."""
    intervals: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    """95% bootstrap intervals of the same."""
    pairs: dict[str, int]
    """Number of pairs by split."""
    texts: int
    """Distinct texts that L_dist saw."""
    altered_copies: int = 0
    """Copies of them that the alignment stage saw besides."""
    truncated_texts: int
    """How many of the texts were longer than ``student.max_length``."""
    dropped_positives: int
    """Positives that the noise filter left out of the label terms."""
    dropped_negatives: int
    """Negatives that it left out."""
    mined_negatives: int = 0
    """Pairs that were mined from the texts and joined the train pairs with label 0."""
    queries: int = 0
    """Queries that retrieval was measured on."""
    exemplars: int = 0
    """Texts among which they were looked up."""
    learned_queries: int = 0
    """Distinct queries that stand in the train pairs, where retrieval flatters."""
    retrieval: dict[str, dict[str, float]] = {}
    """``top1`` and ``mrr`` by system that encodes texts; empty without queries."""
    retrieval_intervals: dict[str, dict[str, tuple[float, float]]] = {}
    """95% bootstrap intervals of the same, over the queries."""
    trainable_parameters: int
    seconds: dict[str, float]
    """Wall time by phase."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run directory read back."""

    directory: Path
    config: TrainConfig
    result: RunResult

    @property
    def adapter(self) -> Path:
        """The PEFT checkpoint."""
        return self.directory / "adapter"

    @property
    def base(self) -> Path | None:
        """The LLM that the adapter was trained on, where it is not ``student.source`` itself."""
        return self.directory / BASE if self.config.student.reshaped else None

    def split(self, name: str) -> Pairs | None:
        """The pairs of a split, or None where the run had none of it."""
        path = self.directory / "splits" / f"{name}.csv"
        return read_pairs(path) if path.is_file() else None


def check_output(directory: Path, *, overwrite: bool) -> None:
    """See whether a run directory can be created, and create nothing.

    Raises:
        OutputExistsError: something is there, and it is not an earlier run that may be replaced.
    """

    def foreign(path: Path) -> str | None:
        return None if (path / CONFIG_FILE).is_file() else "not a run directory"

    check_directory(directory, overwrite=overwrite, foreign=foreign)


def prepare(directory: Path, *, overwrite: bool) -> None:
    """Create an empty run directory, in the place of an earlier run if need be.

    Raises:
        OutputExistsError: see `check_output`.
    """
    check_output(directory, overwrite=overwrite)
    if directory.exists():
        shutil.rmtree(directory.resolve())  # which does not go through a link
    directory.resolve().mkdir(parents=True, exist_ok=True)


def reopen(directory: Path, config: TrainConfig) -> None:
    """Make an unfinished run ready to go on; what its checkpoints do not hold is made again.

    Raises:
        ConfigError: the run was started with other options; the message names the first one.
    """
    before = _read(directory / CONFIG_FILE, TrainConfig, "not a run directory made by 'flipkd train'")
    if changed := _first_difference(before.model_dump(mode="json"), config.model_dump(mode="json")):
        raise ConfigError(f"option {changed} is another one than in {directory / CONFIG_FILE}; resume with the same")
    (directory / "metrics.jsonl").unlink(missing_ok=True)
    for name in ("splits", "teacher", "adapter"):
        if (directory / name).is_dir():
            shutil.rmtree(directory / name)


def read_config(directory: Path) -> TrainConfig:
    """The options of a run, finished or not.

    Raises:
        TrainingError: this is not a run directory.
    """
    return _read(directory / CONFIG_FILE, TrainConfig, "not a run directory made by 'flipkd train'")


def _first_difference(one: dict[str, object], other: dict[str, object], prefix: str = "") -> str | None:
    for name, value in one.items():
        counterpart = other.get(name)
        if isinstance(value, dict) and isinstance(counterpart, dict):
            if inner := _first_difference(value, counterpart, f"{prefix}{name}."):
                return inner
        elif value != counterpart:
            return f"{prefix}{name}"
    return None


def write_config(directory: Path, config: TrainConfig) -> None:
    """Write the options, complete with their defaults."""
    write_text(directory / CONFIG_FILE, config.model_dump_json(indent=2) + "\n")


def write_result(directory: Path, result: RunResult) -> None:
    """Write the result, which marks the run as finished, and remove the checkpoints."""
    write_text(directory / RESULT_FILE, result.model_dump_json(indent=2) + "\n")
    shutil.rmtree(directory / checkpoints.DIRECTORY, ignore_errors=True)


def read_run(directory: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        TrainingError: this is not a run directory, or the run in it did not finish; the message names the file.
    """
    if not directory.is_dir():
        raise TrainingError(f"{directory}: no such directory; expected a run directory made by 'flipkd train'")
    config = _read(directory / CONFIG_FILE, TrainConfig, "not a run directory made by 'flipkd train'")
    result = _read(directory / RESULT_FILE, RunResult, "the training run did not finish; run 'flipkd train' again")
    return FinishedRun(directory, config, result)


def trained_student(run: FinishedRun) -> tuple[Student, PreTrainedTokenizerBase]:
    """Load a finished run's student, in evaluation mode, and its tokenizer.

    Raises:
        ModelSourceError: the LLM is missing.
        TrainingError: the LLM is not the one that the adapter was trained on, or the adapter does not fit it.
    """
    base, trained_on = resolve(run.config.student.source), run.result.student
    if base.reference.revision != trained_on.revision:
        raise TrainingError(
            f"{trained_on.source}: its weights are of revision {base.reference.revision[:16]}, and {run.directory} was "
            f"trained on {trained_on.revision[:16]}; bring that model back or train again"
        )
    student = load_student(str(run.base or base.location), run.adapter, run.config.student)
    return student, load_tokenizer(base.location)


def _read(path: Path, kind: type[Model], missing: str) -> Model:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise TrainingError(f"{path}: missing; {missing}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TrainingError(f"{path}: {where}: {first['msg']}; the file was changed or is of another release") from None
