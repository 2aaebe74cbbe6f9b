"""The stages of a run: the teacher learns the labels, the student its teacher's vectors, then the labels as well."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flipkd_sdk.training import distributed
from flipkd_sdk.training.corpus import vector_cache
from flipkd_sdk.training.data.datasets import TextDataset
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.evaluate_models import encode_with, evaluate_teacher, evaluate_teacher_scores
from flipkd_sdk.training.evaluation import development_measures
from flipkd_sdk.training.fine_tuning import fine_tune
from flipkd_sdk.training.initialization import initialize_encoder
from flipkd_sdk.training.loop.stage import Stage
from flipkd_sdk.training.loop.trainer import train_stage
from flipkd_sdk.training.losses.objective import flipped_distillation

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.data.datasets import PairDataset
    from flipkd_sdk.training.data.splits import TrainingData
    from flipkd_sdk.training.evaluation import Evaluation
    from flipkd_sdk.training.models.student import Student
    from flipkd_sdk.training.models.teacher import Teacher


def prepare_teacher(
    config: TrainConfig, teacher: Teacher | None, data: TrainingData, directory: Path, *, resume: bool = False
) -> tuple[dict[str, Evaluation], Teacher | None]:
    """Fine-tune the teacher if asked for, and measure it on the development and test pairs, and on the queries.

    Returns:
        Its measures by name, and the teacher that the student learns from.
    """
    if teacher is None:
        splits = [split for split in (data.dev, data.test) if split is not None]
        if any(split.teacher_score is None for split in splits):
            return {}, None
        return {"teacher": evaluate_teacher_scores(config, data)}, None

    def measure(teacher: Teacher) -> Evaluation:
        return distributed.from_main(partial(evaluate_teacher, config, teacher, data))

    systems = {}
    if config.teacher.epochs:
        if not config.teacher.from_scratch:
            systems["teacher as is"] = measure(teacher)
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
    systems["teacher"] = measure(teacher)
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
    """Initialize A, align with the teacher on all texts, then learn the labels; the student is left at its best.

    Alignment looks at no label, and the best of its epochs is the one that agrees best with the teacher on the
    development texts: average precision moves more by chance, on some hundred pairs, than from one epoch to the next.

    Args:
        config: all options.
        student: starts as it was loaded.
        tokenizer: the student's.
        labelled: the train pairs, with the corpus of all texts.
        dev: the development pairs.
        teacher: whose vectors stand in the corpus, if they do.
        directory: the run directory.
        resume: go on from the last checkpoints, if there are any.

    Returns:
        The records of both stages.
    """
    corpus = labelled.corpus
    initialize_encoder(student, corpus, seed=config.seed)
    shown = None
    if teacher is not None:
        shown = distributed.from_main(partial(cached_vectors, teacher, dev.texts, vector_cache()))

    def stage(name: str) -> Stage:
        learns_labels = name == "labels"
        return Stage(
            name=name,
            model=student,
            dataset=labelled if learns_labels else TextDataset(corpus),
            objective=partial(flipped_distillation, config=config.loss),
            config=config.labels if learns_labels else config.alignment,
            development=partial(development_measures, partial(encode_with, student, tokenizer), dev, shown),
            run_directory=directory,
            seed=config.seed,
            resume=resume,
            bf16=config.precision == "bf16",
            criterion="average_precision" if learns_labels else "agreement",
        )

    # The alignment stage learns the teacher's vectors of single texts.
    names = ["labels"] if teacher is None else ["alignment", "labels"]
    return [record for name in names for record in train_stage(stage(name))]
