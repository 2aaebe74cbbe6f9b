"""The pair head as a step of a run: train, measure, calibrate and write it."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flipkd_sdk.contrast import ContrastPair, ContrastSet, contrast_pairs
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation.behaviour import Behaviour, check_behaviour
from flipkd_sdk.evaluation.evaluate import Evaluation, evaluate_scores
from flipkd_sdk.pairs import Pairs
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.evaluate_models import encode_with
from flipkd_sdk.training.head.files import HeadResult, write_head
from flipkd_sdk.training.head.fit import train_head

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.data.splits import TrainingData
    from flipkd_sdk.training.head.fit import TrainedHead
    from flipkd_sdk.training.models.committee import Committee
    from flipkd_sdk.training.models.student import AnyStudent
    from flipkd_sdk.training.models.teacher import Teacher

logger = logging.getLogger("flipkd_sdk")

_HELD_BACK = 30
"""Most contrast pairs of each kind that are made of the development texts."""


class AddedHead(NamedTuple):
    """A head that was trained and written."""

    result: HeadResult
    evaluation: Evaluation
    contrast: ContrastSet
    """Contrast pairs that it learned from."""
    behaviour: Behaviour | None
    """Pass rates on contrast pairs of the development texts; None without contrast pairs."""


def add_head(
    config: TrainConfig,
    student: AnyStudent,
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
        held_back = _held_back(head, config, data.dev)
        evaluation = evaluate_scores(
            head.score, data.dev, data.test, objective=config.objective, beside=_sample(held_back, len(data.dev))
        )
    except InvalidPairsError as error:
        logger.warning("no pair head, so scores are those of the cosine: %s", error)
        return None
    write_head(directory, head)
    result = HeadResult(
        calibration=evaluation.calibration,
        restraint=head.history[-1]["restraint"],
        share=head.share,
        examples=head.counts,
        contrast=head.contrast.counts,
        contrast_left_out=head.contrast.left_out,
        history=head.history,
        seconds=round(head.seconds, 1),
    )
    behaviour = None
    if held_back.pairs:
        probability = evaluation.calibration.probability(head.score(_as_pairs(held_back.pairs)))
        behaviour = check_behaviour(held_back.pairs, lambda _: probability, threshold=evaluation.calibration.threshold)
    return AddedHead(result, evaluation, head.contrast, behaviour)


def _held_back(head: TrainedHead, config: TrainConfig, dev: Pairs) -> ContrastSet:
    """Return contrast pairs of the development texts."""
    if head.pack is None:
        return ContrastSet((), 0)
    count = min(config.contrast.pairs_per_kind, _HELD_BACK)
    return contrast_pairs(dev.texts, head.pack, per_kind=count, seed=config.seed, labelled_matches=dev.matches)


def _sample(made: ContrastSet, most: int) -> Pairs | None:
    """Return contrast pairs that count for the threshold: at most as many as there are natural pairs."""
    order = np.random.default_rng(0).permutation(len(made.pairs))[:most]
    return _as_pairs([made.pairs[i] for i in order]) if len(order) else None


def _as_pairs(pairs: Sequence[ContrastPair]) -> Pairs:
    labels = np.array([pair.label for pair in pairs], np.int8)
    return Pairs(tuple(pair.text_a for pair in pairs), tuple(pair.text_b for pair in pairs), labels)
