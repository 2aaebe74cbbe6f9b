"""The student of a finished run, as the run left it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.errors import TrainingError
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.student import load_student, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.training.models.student import Student
    from flipkd_sdk.training.run_directory import FinishedRun


def trained_student(run: FinishedRun) -> tuple[Student, PreTrainedTokenizerBase]:
    """Load a finished run's student, in evaluation mode, and its tokenizer.

    Raises:
        ModelSourceError: the LLM is missing.
        TrainingError: another LLM has taken its place, where the adapter might fit and would mean nothing; or the
            adapter does not fit.
    """
    base, trained_on = resolve(run.config.student.source), run.result.student
    if base.reference.revision != trained_on.revision:
        raise TrainingError(
            f"{trained_on.source}: its weights are of revision {base.reference.revision[:16]}, and {run.directory} was "
            f"trained on {trained_on.revision[:16]}; bring that model back or train again"
        )
    student = load_student(str(run.base or base.location), run.adapter, run.config.student)
    return student, load_tokenizer(base.location)
