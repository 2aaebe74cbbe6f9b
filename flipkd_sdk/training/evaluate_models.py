"""The systems that a run measures beside each other: the teacher, the student's vectors and the student's answer."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from flipkd_sdk.errors import InvalidPairsError, TrainingError
from flipkd_sdk.training.corpus import vector_cache
from flipkd_sdk.training.data.tokens import encode, tokenize
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.evaluation import Evaluation, evaluate, evaluate_scores
from flipkd_sdk.training.prompts import prompt_pairs, yes_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.data.splits import TrainingData
    from flipkd_sdk.training.models.student import Student
    from flipkd_sdk.training.models.teacher import Teacher

logger = logging.getLogger("flipkd_sdk")


def evaluate_teacher(config: TrainConfig, teacher: Teacher, data: TrainingData) -> Evaluation:
    """A teacher that encodes texts, on the development and test pairs and the queries; its vectors are cached."""
    encode_texts = partial(cached_vectors, teacher, directory=vector_cache())
    return evaluate(encode_texts, data.dev, data.test, objective=config.objective, queries=data.queries)


def evaluate_teacher_scores(config: TrainConfig, data: TrainingData) -> Evaluation:
    """A teacher that is a column of the pairs."""
    return evaluate_scores(_given_scores, data.dev, data.test, objective=config.objective)


def evaluate_student(
    config: TrainConfig, student: Student, tokenizer: PreTrainedTokenizerBase, data: TrainingData
) -> dict[str, Evaluation]:
    """The student's encoder path and, where that is trained too, its decoder path."""
    encode_texts = partial(encode_with, student, tokenizer)
    systems = {"student": evaluate(encode_texts, data.dev, data.test, objective=config.objective, queries=data.queries)}
    if config.loss.label_lm > 0:
        try:
            systems["student's answer"] = evaluate_answers(config, student, tokenizer, data)
        except InvalidPairsError as error:  # the encoder path is the product, and it is trained
            logger.warning("the student's own answer, its decoder path, is left out of the report: %s", error)
    return systems


def evaluate_answers(
    config: TrainConfig, student: Student, tokenizer: PreTrainedTokenizerBase, data: TrainingData
) -> Evaluation:
    """The decoder path beside the encoder path: the student's "yes" as a score.

    Raises:
        InvalidPairsError: on the development pairs it says nothing of the label.
    """

    def score(pairs: Pairs) -> NDArray[np.float32]:
        prompts = prompt_pairs(tokenizer, pairs, config.prompt, max_length=config.student.max_length)
        return yes_probabilities(student, prompts)

    return evaluate_scores(score, data.dev, data.test, objective=config.objective)


def encode_with(student: Student, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> NDArray[np.float32]:
    """The student's unit vectors of n texts, float32 (n, r), in evaluation mode."""
    device = student.encoder_weight.device
    return encode(tokenize(tokenizer, texts, student.options.max_length), student.eval(), device=device)


def _given_scores(pairs: Pairs) -> NDArray[np.float32]:
    if pairs.teacher_score is None:
        raise TrainingError("the pairs have no teacher scores")
    return pairs.teacher_score
