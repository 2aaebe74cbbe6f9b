"""The pair head as a step of a run: train, measure, calibrate and write it."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation.evaluate import Evaluation, evaluate_scores
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.evaluate_models import encode_with
from flipkd_sdk.training.head.files import HeadResult, write_head
from flipkd_sdk.training.head.fit import train_head

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.data.splits import TrainingData
    from flipkd_sdk.training.models.committee import Committee
    from flipkd_sdk.training.models.student import Student
    from flipkd_sdk.training.models.teacher import Teacher

logger = logging.getLogger("flipkd_sdk")


class AddedHead(NamedTuple):
    """A head that was trained and written."""

    result: HeadResult
    evaluation: Evaluation


def add_head(
    config: TrainConfig,
    student: Student,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    keep: NDArray[np.bool_],
    teacher: Teacher | Committee | None,
    directory: Path,
) -> AddedHead | None:
    """Train a pair head and write it into the run directory.

    Args:
        config: all options.
        student: trained; stays as it is.
        tokenizer: the student's.
        data: pairs and texts of the run.
        keep: train pairs that the noise filter kept, shape (n,).
        teacher: whose opinion further pairs get, if it encodes texts.
        directory: the run directory.

    Returns:
        The head, or None where it is off or the development pairs do not allow a calibration.
    """
    if not config.head.enabled:
        return None
    train = data.train.take(keep.nonzero()[0].tolist())
    try:
        head = train_head(
            config,
            student,
            tokenizer,
            train,
            data.dev,
            data.texts,
            None if teacher is None else partial(cached_vectors, teacher),
            partial(encode_with, student, tokenizer) if teacher is None else teacher.encode,
        )
        evaluation = evaluate_scores(head.score, data.dev, data.test, objective=config.objective)
    except InvalidPairsError as error:
        logger.warning("no pair head, so scores are those of the cosine: %s", error)
        return None
    write_head(directory, head)
    result = HeadResult(
        calibration=evaluation.calibration,
        restraint=head.restraint,
        examples=head.counts,
        contrast=head.contrast.counts,
        contrast_left_out=head.contrast.left_out,
        history=head.history,
        seconds=round(head.seconds, 1),
    )
    return AddedHead(result, evaluation)
