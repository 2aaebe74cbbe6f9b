"""The run directory: the result of a training run and the input of an export.

It contains ``config.json``, ``splits/``, ``adapter/`` (a plain PEFT checkpoint), ``base/`` if the LLM was made smaller
first, ``teacher/`` if the teacher was fine-tuned, ``metrics.jsonl``, ``report.html`` and, written last,
``result.json``: a directory without it is not finished.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from flipkd_sdk.artifact.manifest import ModelReference  # noqa: TC001
from flipkd_sdk.atomic import check_directory, write_text
from flipkd_sdk.errors import ConfigError, TrainingError
from flipkd_sdk.evaluation.calibration import Calibration  # noqa: TC001 - pydantic reads the field types at run time
from flipkd_sdk.pairs import read_pairs, read_texts
from flipkd_sdk.training.config.removed import drop_removed_options
from flipkd_sdk.training.config.schema import TrainConfig
from flipkd_sdk.training.data.splits import TEXTS_FILE
from flipkd_sdk.training.head.files import HeadResult  # noqa: TC001 - pydantic reads the field types at run time
from flipkd_sdk.training.loop import checkpoints
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.static import load_static_student
from flipkd_sdk.training.models.student import load_student, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.models.sources import ResolvedModel
    from flipkd_sdk.training.models.student import AnyStudent

Model = TypeVar("Model", bound=BaseModel)

CONFIG_FILE = "config.json"
RESULT_FILE = "result.json"
_CHANGED = "the file was changed or is of another release"
_NO_RUN = "not a run directory made by 'flipkd train'"
BASE = "base"
"""Directory of the smaller LLM that the student starts from."""


class RunResult(BaseModel):
    """Result of a finished run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sdk_version: str
    student: ModelReference
    teacher: ModelReference
    calibration: Calibration
    """Calibration of the student, fitted on the development split."""
    measures: dict[str, dict[str, dict[str, float]]]
    """Measures by system, then by split; ``teacher as is``, ``teacher``, ``student``, ``student with head`` and
    ``student's answer``."""
    intervals: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    """95% bootstrap intervals of `measures`."""
    pairs: dict[str, int]
    """Number of pairs by split."""
    texts: int
    """Number of distinct texts of L_dist."""
    altered_copies: int = 0
    """Number of altered copies that the alignment stage used in addition."""
    truncated_texts: int
    """Number of texts that were longer than ``student.max_length``."""
    validation_texts: int = 0
    """Number of texts that no stage learned, on which the student was compared with its teacher."""
    validation: dict[str, float] = {}
    """The student there: mean cosine with the teacher, error of similarities, overlap of neighbourhoods."""
    dropped_positives: int
    """Number of positives that the noise filter left out of the label terms."""
    dropped_negatives: int
    """Number of negatives that the noise filter left out of the label terms."""
    queries: int = 0
    """Number of queries that retrieval was measured on."""
    exemplars: int = 0
    """Number of texts among which they were looked up."""
    learned_queries: int = 0
    """Number of distinct queries that also occur in the train pairs, which inflates retrieval."""
    retrieval: dict[str, dict[str, float]] = {}
    """``top1`` and ``mrr`` by system that encodes texts; empty without queries."""
    retrieval_intervals: dict[str, dict[str, tuple[float, float]]] = {}
    """95% bootstrap intervals of `retrieval` over the queries."""
    head: HeadResult | None = None
    """The pair head, if one was trained."""
    verdict: list[str] = []
    """Conclusion in sentences, the headline first; empty in runs of earlier releases."""
    trainable_parameters: int
    seconds: dict[str, float]
    """Wall time by phase."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run directory."""

    directory: Path
    config: TrainConfig
    result: RunResult

    @property
    def adapter(self) -> Path:
        """The PEFT checkpoint, or what a static student has learned."""
        return self.directory / "adapter"

    @property
    def base(self) -> Path | None:
        """The LLM that the adapter was trained on; None if it is ``student.source`` itself."""
        # Runs of an earlier release may contain one for another reason than mlp_width.
        base = self.directory / BASE
        return base if self.config.student.mlp_width is not None or base.is_dir() else None

    def split(self, name: str) -> Pairs | None:
        """Return the pairs of a split, or None if the run has no such split."""
        path = self.directory / "splits" / f"{name}.csv"
        return read_pairs(path) if path.is_file() else None

    def texts(self) -> Sequence[str]:
        """Return a sample of the training texts; those of the train pairs if the run is of an earlier release."""
        path = self.directory / "splits" / TEXTS_FILE
        if path.is_file():
            return read_texts(path)
        train = self.split("train")
        return () if train is None else train.texts


def check_output(directory: Path, *, overwrite: bool) -> None:
    """Raise if a run directory cannot be created.

    Raises:
        OutputExistsError: the path exists and is not an earlier run that may be replaced.
    """

    def foreign(path: Path) -> str | None:
        return None if (path / CONFIG_FILE).is_file() else "not a run directory"

    check_directory(directory, overwrite=overwrite, foreign=foreign)


def prepare(directory: Path, *, overwrite: bool) -> None:
    """Create an empty run directory; with ``overwrite`` it replaces an earlier run.

    Raises:
        OutputExistsError: as for `check_output`.
    """
    check_output(directory, overwrite=overwrite)
    if directory.exists():
        shutil.rmtree(directory.resolve())  # A link itself is refused by rmtree and stays.
    directory.resolve().mkdir(parents=True, exist_ok=True)


def reopen(directory: Path, config: TrainConfig) -> None:
    """Prepare an unfinished run for resuming: remove files that are written again.

    Raises:
        ConfigError: the run was started with other options; the message names the first one.
        TrainingError: the run was started with an option that was removed since.
    """
    before = read_config(directory)
    if changed := _first_difference(before.model_dump(mode="json"), config.model_dump(mode="json")):
        raise ConfigError(f"option {changed} differs from {directory / CONFIG_FILE}; resume with the same options")
    (directory / "metrics.jsonl").unlink(missing_ok=True)
    for name in ("splits", "teacher", "adapter"):
        if (directory / name).is_dir():
            shutil.rmtree(directory / name)


def read_config(directory: Path) -> TrainConfig:
    """Return the options of a run, finished or not.

    Raises:
        TrainingError: this is not a run directory, or its unfinished run used an option that was removed since.
    """
    path = directory / CONFIG_FILE
    content = _read_json(path, _NO_RUN)
    removed = drop_removed_options(content)
    # A finished run is only evaluated and exported, and its adapter does not depend on the options of its training.
    if removed and not (directory / RESULT_FILE).is_file():
        raise TrainingError(f"{path}: this release has no option {removed[0]}, so it cannot resume; train again")
    return _validated(path, TrainConfig, content)


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
    """Write all options, defaults included."""
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
    config, file = read_config(directory), directory / RESULT_FILE
    content = _read_json(file, "the training run did not finish; run 'flipkd train' again")
    content.pop("mined_negatives", None)  # The last release to write it had the option mining.
    result = _validated(file, RunResult, content)
    return FinishedRun(directory, config, result)


def origin_of_teacher(model: ResolvedModel) -> ModelReference:
    """Return the origin and licence of a teacher that an earlier run has fine-tuned; of any other model its own."""
    result = Path(model.location).parent / RESULT_FILE
    if not result.is_file():
        return model.reference
    try:
        recorded = _validated(result, RunResult, _read_json(result, _NO_RUN)).teacher
    except TrainingError:  # Another program's file.
        return model.reference
    return recorded if recorded.revision == model.reference.revision else model.reference


def trained_student(run: FinishedRun) -> tuple[AnyStudent, PreTrainedTokenizerBase]:
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
    if run.config.student.is_static:
        static = load_static_student(base.location, run.adapter, run.config.student)
        return static, load_tokenizer(base.location)
    student = load_student(str(run.base or base.location), run.adapter, run.config.student)
    return student, load_tokenizer(base.location)


def _read_json(path: Path, missing: str) -> dict[str, object]:
    try:
        content = from_json(path.read_bytes())
    except FileNotFoundError:
        raise TrainingError(f"{path}: missing; {missing}") from None
    except ValueError as error:
        raise TrainingError(f"{path}: not JSON: {error}; {_CHANGED}") from None
    if not isinstance(content, dict):
        raise TrainingError(f"{path}: not a JSON object; {_CHANGED}")
    return content


def _validated(path: Path, kind: type[Model], content: dict[str, object]) -> Model:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise TrainingError(f"{path}: {name}: {first['msg']}; {_CHANGED}") from None
