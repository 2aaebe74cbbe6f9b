"""Evaluation of a run's systems: the teacher, the student's vectors and the student's answer."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from flipkd_sdk.errors import InvalidPairsError, TrainingError
from flipkd_sdk.evaluation.encoders import encoder_agreement, vector_cosines
from flipkd_sdk.evaluation.evaluate import Evaluation, evaluate, evaluate_scores
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.models.student import Student
from flipkd_sdk.training.prompts import prompt_pairs, yes_probabilities
from flipkd_sdk.training.tokens import encode, tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.evaluation.encoders import Encode
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.data.splits import TrainingData
    from flipkd_sdk.training.models.committee import Committee
    from flipkd_sdk.training.models.student import AnyStudent
    from flipkd_sdk.training.models.teacher import Teacher

logger = logging.getLogger("flipkd_sdk")


def development_measures(encode: Encode, dev: Pairs, teacher: NDArray[np.float32] | None = None) -> dict[str, float]:
    """Measure an encoder between epochs: its average precision and its agreement with the teacher.

    Args:
        encode: the encoder with its present weights.
        dev: the development pairs.
        teacher: the teacher's vectors of ``dev.texts``; None leaves ``agreement`` out.
    """
    vectors = encode(dev.texts)
    measures = {"average_precision": average_precision(vector_cosines(vectors, dev), dev.label)}
    return measures if teacher is None else measures | {"agreement": encoder_agreement(vectors, teacher)}


def evaluate_teacher(config: TrainConfig, teacher: Teacher | Committee, data: TrainingData) -> Evaluation:
    """Evaluate a teacher that encodes texts on the development and test pairs and the queries."""
    encode_texts = partial(cached_vectors, teacher)
    return evaluate(encode_texts, data.dev, data.test, objective=config.objective, queries=data.queries)


def evaluate_teacher_scores(config: TrainConfig, data: TrainingData) -> Evaluation:
    """Evaluate a teacher that is a column of the pairs."""
    return evaluate_scores(_teacher_scores, data.dev, data.test, objective=config.objective)


def evaluate_student(
    config: TrainConfig, student: AnyStudent, tokenizer: PreTrainedTokenizerBase, data: TrainingData
) -> dict[str, Evaluation]:
    """Evaluate the student's encoder path and, if ``loss.label_lm`` trains it, its decoder path."""
    encode_texts = partial(encode_with, student, tokenizer)
    systems = {"student": evaluate(encode_texts, data.dev, data.test, objective=config.objective, queries=data.queries)}
    if config.loss.label_lm > 0 and isinstance(student, Student):
        try:
            systems["student's answer"] = evaluate_answers(config, student, tokenizer, data)
        except InvalidPairsError as error:
            # The encoder path is the product and it is trained, so the run is finished without the decoder path.
            logger.warning("the student's own answer, its decoder path, is left out of the report: %s", error)
    return systems


def evaluate_answers(
    config: TrainConfig, student: Student, tokenizer: PreTrainedTokenizerBase, data: TrainingData
) -> Evaluation:
    """Evaluate the decoder path: the probability of the "yes" word as a score.

    Raises:
        InvalidPairsError: the development pairs do not allow a calibration.
    """

    def score(pairs: Pairs) -> NDArray[np.float32]:
        prompts = prompt_pairs(tokenizer, pairs, config.prompt, max_length=config.student.max_length)
        return yes_probabilities(student, prompts)

    return evaluate_scores(score, data.dev, data.test, objective=config.objective)


def encode_with(student: AnyStudent, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the student's unit vectors of n texts in evaluation mode, float32 (n, r)."""
    device = student.encoder_weight.device
    return encode(tokenize(tokenizer, texts, student.options.max_length), student.eval(), device=device)


def _teacher_scores(pairs: Pairs) -> NDArray[np.float32]:
    if pairs.teacher_score is None:
        raise TrainingError("the pairs have no teacher scores")
    return pairs.teacher_score
