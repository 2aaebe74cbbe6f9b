"""The stages of a run: the teacher learns the labels; the student learns the teacher's vectors, then the labels."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flipkd_sdk.training import distributed
from flipkd_sdk.training.data.datasets import TextDataset
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.evaluate_models import (
    development_measures,
    encode_with,
    evaluate_teacher,
    evaluate_teacher_scores,
)
from flipkd_sdk.training.fine_tuning import fine_tune
from flipkd_sdk.training.initialization import initialize_encoder
from flipkd_sdk.training.loop.stage import Stage
from flipkd_sdk.training.loop.trainer import train_stage
from flipkd_sdk.training.losses.objective import flipped_distillation

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.evaluation.evaluate import Evaluation
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.data.datasets import PairDataset
    from flipkd_sdk.training.data.splits import TrainingData
    from flipkd_sdk.training.models.student import Student
    from flipkd_sdk.training.models.teacher import Teacher


def prepare_teacher(
    config: TrainConfig, teacher: Teacher | None, data: TrainingData, directory: Path, *, resume: bool = False
) -> tuple[dict[str, Evaluation], Teacher | None]:
    """Fine-tune the teacher if ``teacher.epochs`` is above 0, and evaluate it.

    Returns:
        Its evaluations by name, and the teacher that the student learns from.
    """
    if teacher is None:
        splits = [split for split in (data.dev, data.test) if split is not None]
        if any(split.teacher_score is None for split in splits):
            return {}, None
        return {"teacher": evaluate_teacher_scores(config, data)}, None

    def evaluated(teacher: Teacher) -> Evaluation:
        return distributed.broadcast_from_main(partial(evaluate_teacher, config, teacher, data))

    systems = {}
    if config.teacher.epochs:
        if not config.teacher.from_scratch:
            systems["teacher as is"] = evaluated(teacher)
        teacher = fine_tune(
            teacher,
            data.train,
            config.teacher,
            development=partial(development_measures, teacher.encode, data.dev),
            run_directory=directory,
            seed=config.seed,
            resume=resume,
            bf16=config.precision == "bf16",
        )
    systems["teacher"] = evaluated(teacher)
    return systems, teacher


def train_student(
    config: TrainConfig,
    student: Student,
    tokenizer: PreTrainedTokenizerBase,
    labelled: PairDataset,
    dev: Pairs,
    teacher: Teacher | None,
    directory: Path,
    *,
    resume: bool = False,
) -> list[dict[str, Any]]:
    """Initialize A, align the student with the teacher on all texts, then train it on the labels.

    The alignment uses no label. Its best epoch is the one that agrees best with the teacher on the development texts:
    average precision on a few hundred pairs varies more by chance than from one epoch to the next.

    Args:
        config: all options.
        student: the student as it was loaded; it is left with its best weights.
        tokenizer: the student's tokenizer.
        labelled: the train pairs, with the corpus of all texts.
        dev: the development pairs.
        teacher: the teacher whose vectors the corpus contains; None if it contains none.
        directory: the run directory.
        resume: continue from the last checkpoints if there are any.

    Returns:
        The records of both stages.
    """
    initialize_encoder(student, labelled.corpus, seed=config.seed)
    teacher_vectors = None
    if teacher is not None:
        teacher_vectors = distributed.broadcast_from_main(partial(cached_vectors, teacher, dev.texts))
    stage = partial(
        Stage,
        model=student,
        objective=partial(flipped_distillation, config=config.loss),
        development=partial(development_measures, partial(encode_with, student, tokenizer), dev, teacher_vectors),
        run_directory=directory,
        seed=config.seed,
        resume=resume,
        bf16=config.precision == "bf16",
    )
    stages = [stage(name="labels", dataset=labelled, config=config.labels, criterion="average_precision")]
    # The alignment learns the teacher's vectors of single texts, so it needs a teacher that encodes texts.
    if teacher is not None:
        texts = TextDataset(labelled.corpus)
        stages.insert(0, stage(name="alignment", dataset=texts, config=config.alignment, criterion="agreement"))
    return [record for each in stages for record in train_stage(each)]
