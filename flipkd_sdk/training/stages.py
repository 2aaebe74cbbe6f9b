"""The stages of a run: the teacher learns the labels; the student learns the teacher's vectors, then the labels."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.pairs import fold_numbers
from flipkd_sdk.training import distributed
from flipkd_sdk.training.data.datasets import TextDataset
from flipkd_sdk.training.data.validation import CRITERION
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.evaluate_models import (
    development_measures,
    encode_with,
    evaluate_teacher,
    evaluate_teacher_scores,
)
from flipkd_sdk.training.fine_tuning import fine_tune
from flipkd_sdk.training.initialization import initialize_encoder
from flipkd_sdk.training.loop.stage import Stage, Undo
from flipkd_sdk.training.loop.trainer import train_stage
from flipkd_sdk.training.losses.objective import flipped_distillation
from flipkd_sdk.training.models.committee import Committee, committee_of

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.evaluation.encoders import Encode
    from flipkd_sdk.evaluation.evaluate import Evaluation
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.data.datasets import PairDataset
    from flipkd_sdk.training.data.splits import TrainingData
    from flipkd_sdk.training.data.validation import Validation
    from flipkd_sdk.training.models.student import AnyStudent
    from flipkd_sdk.training.models.teacher import Teacher


def prepare_teacher(
    config: TrainConfig, teacher: Teacher | None, data: TrainingData, directory: Path, *, resume: bool = False
) -> tuple[dict[str, Evaluation], Teacher | Committee | None]:
    """Fine-tune the teacher if ``teacher.epochs`` is above 0, or a committee, and evaluate it.

    Returns:
        Its evaluations by name, and the teacher that the student learns from.
    """
    if teacher is None:
        splits = [split for split in (data.dev, data.test) if split is not None]
        if any(split.teacher_score is None for split in splits):
            return {}, None
        return {"teacher": evaluate_teacher_scores(config, data)}, None

    def evaluated(teacher: Teacher | Committee) -> Evaluation:
        return distributed.broadcast_from_main(partial(evaluate_teacher, config, teacher, data))

    systems = {}
    tuned: Teacher | Committee = teacher
    if config.teacher.epochs:
        if not config.teacher.from_scratch:
            systems["teacher as is"] = evaluated(teacher)
        tuned = _fine_tuned(config, teacher, data, directory, resume=resume)
    systems["teacher"] = evaluated(tuned)
    return systems, tuned


def _fine_tuned(
    config: TrainConfig, teacher: Teacher, data: TrainingData, directory: Path, *, resume: bool
) -> Teacher | Committee:
    """Return the teacher fine-tuned on all train pairs, or a committee whose members each leave a fold out."""

    def tune(member: Teacher, train: Pairs, name: str) -> Teacher:
        return fine_tune(
            member,
            train,
            config.teacher,
            development=partial(development_measures, member.encode, data.dev),
            run_directory=directory,
            seed=config.seed,
            name=name,
            # Random weights are no alternative to trained ones.
            undo=None if config.teacher.from_scratch else _undo(member.encode, data.dev),
            resume=resume,
            bf16=config.precision == "bf16",
            report_to=config.report_to,
        )

    if config.teacher.folds == 1:
        return tune(teacher, data.train, "teacher")
    fold = fold_numbers(data.train, config.teacher.folds, seed=config.seed)
    members = []
    for number in range(config.teacher.folds):
        member = replace(teacher, encoder=deepcopy(teacher.encoder))
        members.append(tune(member, data.train.take(np.flatnonzero(fold != number)), f"teacher-{number + 1}"))
    return committee_of(members, data.train, fold)


def _undo(encode: Encode, dev: Pairs) -> Undo:
    return Undo(partial(encoder_cosines, encode, dev), dev.label)


def train_student(
    config: TrainConfig,
    student: AnyStudent,
    tokenizer: PreTrainedTokenizerBase,
    labelled: PairDataset,
    dev: Pairs,
    teacher: Teacher | Committee | None,
    directory: Path,
    *,
    validation: Validation | None = None,
    resume: bool = False,
) -> list[dict[str, Any]]:
    """Initialize A, align the student with the teacher on all texts, then train it on the labels.

    The alignment uses no label. Its best epoch is the one nearest to the teacher on the validation texts, or without
    them the one that agrees best with it on the development texts: average precision on a few hundred pairs varies more
    by chance than from one epoch to the next.

    Args:
        config: all options.
        student: the student as it was loaded; it is left with its best weights.
        tokenizer: the student's tokenizer.
        labelled: the train pairs, with the corpus of all texts.
        dev: the development pairs.
        teacher: the teacher whose vectors the corpus contains; None if it contains none.
        directory: the run directory.
        validation: texts that no stage learns, with the teacher's vectors.
        resume: continue from the last checkpoints if there are any.

    Returns:
        The records of both stages.
    """
    initialize_encoder(student, labelled.corpus, seed=config.seed)
    teacher_vectors = None
    if teacher is not None:
        teacher_vectors = distributed.broadcast_from_main(partial(cached_vectors, teacher, dev.texts))
    encode_texts = partial(encode_with, student, tokenizer)

    def development() -> dict[str, float]:
        measures = development_measures(encode_texts, dev, teacher_vectors)
        return measures if validation is None else measures | validation.measures(encode_texts)

    stage = partial(
        Stage,
        model=student,
        objective=partial(flipped_distillation, config=config.loss),
        development=development,
        run_directory=directory,
        seed=config.seed,
        resume=resume,
        # A static student has no product that bfloat16 would speed up.
        bf16=config.precision == "bf16" and not config.student.is_static,
        report_to=config.report_to,
    )
    undo = _undo(encode_texts, dev) if teacher is not None else None
    stages = [stage(name="labels", dataset=labelled, config=config.labels, undo=undo)]
    # The alignment learns the teacher's vectors of single texts, so it needs a teacher that encodes texts.
    if teacher is not None:
        texts = TextDataset(labelled.corpus)
        criterion = "agreement" if validation is None else CRITERION
        stages.insert(0, stage(name="alignment", dataset=texts, config=config.alignment, criterion=criterion))
    return [record for each in stages for record in train_stage(each)]
