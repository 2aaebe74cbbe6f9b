"""Fine-tuning of the teacher on the train pairs with the CoSENT loss."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.training.config.schema import StageConfig
from flipkd_sdk.training.data.corpus import Corpus
from flipkd_sdk.training.data.datasets import PairDataset
from flipkd_sdk.training.distributed import broadcast_from_main
from flipkd_sdk.training.loop.stage import Stage
from flipkd_sdk.training.loop.trainer import train_stage
from flipkd_sdk.training.losses import cosent
from flipkd_sdk.training.models.teacher import save_teacher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TeacherConfig
    from flipkd_sdk.training.loop.stage import Undo
    from flipkd_sdk.training.models.teacher import Teacher


def fine_tune(
    teacher: Teacher,
    train: Pairs,
    config: TeacherConfig,
    *,
    development: Callable[[], dict[str, float]],
    run_directory: Path,
    seed: int,
    name: str = "teacher",
    undo: Undo | None = None,
    resume: bool = False,
    bf16: bool = False,
    report_to: tuple[str, ...] = (),
) -> Teacher:
    """Fine-tune the teacher on labelled pairs and save it in the run directory.

    Args:
        teacher: the teacher; its weights change.
        train: the train pairs.
        config: epochs, learning rate and batch size.
        development: measures of this teacher on the development pairs; the epoch of the best ``average_precision``
            is kept.
        run_directory: the run directory.
        seed: seed of the order.
        name: the stage, and with a slash for each hyphen the directory that the teacher is saved in.
        undo: development pairs that decide whether the fine-tuned weights are kept.
        resume: continue from the last checkpoint if there is one.
        bf16: compute in bfloat16.
        report_to: experiment trackers.

    Returns:
        The same teacher with the revision of its new weights.
    """
    texts = train.texts
    tokens = teacher.tokenize(texts)
    # CoSENT learns from labels alone: this corpus has no vectors of another teacher.
    corpus = Corpus({text: i for i, text in enumerate(texts)}, tokens, teacher=None, target=None)
    stage = Stage(
        name=name,
        model=teacher.encoder,
        dataset=PairDataset(corpus, train, np.ones(len(train), dtype=bool)),
        objective=_labels_objective,
        config=StageConfig(epochs=config.epochs, batch_size=config.batch_size, learning_rate=config.learning_rate),
        development=development,
        run_directory=run_directory,
        seed=seed,
        undo=undo,
        resume=resume,
        bf16=bf16,
        report_to=report_to,
    )
    train_stage(stage)
    revision = broadcast_from_main(partial(save_teacher, teacher, run_directory.joinpath(*name.split("-"))))
    return replace(teacher, reference=replace(teacher.reference, revision=revision))


def _labels_objective(vectors: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    first, second = vectors.chunk(2)
    return {"cosent": cosent((first * second).sum(dim=1), batch["label"])}
