"""A training run from top to bottom: pairs → teacher → student → calibration → run directory."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import transformers

from flipkd_sdk import __version__
from flipkd_sdk.artifact.manifest import ModelReference, sha256_of
from flipkd_sdk.training import distributed
from flipkd_sdk.training import run_directory as run_files
from flipkd_sdk.training.corpus import build_corpus
from flipkd_sdk.training.data.augmentation import altered_copies
from flipkd_sdk.training.data.datasets import PairDataset
from flipkd_sdk.training.data.hard_negatives import join, mine_negatives
from flipkd_sdk.training.data.noise_filter import filter_noise
from flipkd_sdk.training.data.splits import TrainingData, read_data, write_splits
from flipkd_sdk.training.data.tokens import tokenize
from flipkd_sdk.training.evaluate_models import evaluate_student
from flipkd_sdk.training.evaluation import figures
from flipkd_sdk.training.models import shrink
from flipkd_sdk.training.models.mlp_pruning import check_width
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.student import create_student, load_tokenizer
from flipkd_sdk.training.models.teacher import Teacher, load_teacher
from flipkd_sdk.training.prompts import prompt_pairs
from flipkd_sdk.training.report.write import write_report
from flipkd_sdk.training.run_directory import RunResult
from flipkd_sdk.training.stages import prepare_teacher, train_student

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flipkd_sdk.training.config.schema import StageConfig, TeacherConfig, TrainConfig

logger = logging.getLogger("flipkd_sdk")


def train(config: TrainConfig, directory: Path, *, overwrite: bool = False, resume: bool = False) -> RunResult:
    """Train a student and write the run directory.

    Of several processes (see `flipkd_sdk.training.distributed`) the main one writes, and all return the result.

    Args:
        config: all options.
        directory: where the run goes; created.
        overwrite: replace an earlier run there.
        resume: go on where an earlier run with the same options was stopped; of a finished one the result is returned.

    Raises:
        OutputExistsError: something is there already.
        InvalidPairsError: the pairs or texts cannot be used.
        ModelSourceError: the teacher or the student cannot be loaded.
        ConfigError: options contradict each other.
        TrainingError: a loss became NaN or infinite, or memory ran out.
    """
    distributed.start()
    # Whatever can be wrong with the inputs comes out before an earlier run is replaced and before hours are spent.
    resume = resume and (directory / run_files.CONFIG_FILE).is_file()
    if resume and (directory / run_files.RESULT_FILE).is_file():
        return run_files.read_run(directory).result
    with distributed.main_first():  # it tells what is wrong, and converts models
        distributed.refuse_indivisible(_batch_sizes(config))
        if not resume:
            run_files.check_output(directory, overwrite=overwrite)
        data = read_data(config.data, seed=config.seed, teacher_scores=config.teacher.kind == "scores")
        student_model = resolve(config.student.source)
        teacher = _load_teacher(config)
    config = _with_precision(_with_length_of_vectors(config, teacher))
    transformers.set_seed(config.seed)
    tokenizer = load_tokenizer(student_model.location)
    whole = config.loss.label_lm > 0
    student = create_student(student_model.location, config.student, full_model=whole).to(distributed.device())
    check_width(cast("PreTrainedModel", student.model.get_base_model()), config.student)
    config = config.model_copy(update={"student": student.options})  # which says where in this LLM the last block is
    distributed.from_main(partial(_open, directory, config, data, overwrite=overwrite, resume=resume))
    if config.student.reshaped:
        smaller = directory / run_files.BASE
        distributed.from_main(partial(_reshape, student_model.location, config, tokenizer, data.texts, smaller))
        student = create_student(str(smaller), config.student).to(distributed.device())

    seconds: dict[str, float] = {}
    started = time.monotonic()
    systems, teacher = prepare_teacher(config, teacher, data, directory, resume=resume)
    seconds["teacher"] = time.monotonic() - started

    altered = _altered_copies(config, data) if teacher is not None else []
    corpus = build_corpus(data.texts, teacher, student, tokenizer, copies=altered)
    seconds["teacher vectors"] = time.monotonic() - started - sum(seconds.values())

    scores = corpus.teacher_scores(data.train)
    noise = distributed.from_main(partial(filter_noise, scores, data.train.label, config.noise_filter))
    mined = distributed.from_main(partial(mine_negatives, corpus, data.train, config.mining))
    labelled = PairDataset(
        corpus,
        pairs := join(data.train, mined),
        np.append(noise.keep, np.ones(len(mined), dtype=bool)),
        prompt_pairs(tokenizer, pairs, config.prompt, max_length=config.student.max_length) if whole else None,
    )
    records = train_student(config, student, tokenizer, labelled, data.dev, teacher, directory, resume=resume)

    def conclude() -> RunResult:
        systems.update(evaluate_student(config, student, tokenizer, data))
        student.model.save_pretrained(str(directory / "adapter"))
        seconds["student"] = time.monotonic() - started - sum(seconds.values())
        result = RunResult(
            sdk_version=__version__,
            student=student_model.reference,
            teacher=teacher.reference if teacher else _no_encoder(config),
            calibration=systems["student"].calibration,
            **figures(systems),
            pairs=data.sizes,
            texts=len(data.texts),
            altered_copies=len(altered),
            truncated_texts=corpus.tokens.truncated,
            dropped_positives=len(noise.dropped(data.train.label, 1)),
            dropped_negatives=len(noise.dropped(data.train.label, 0)),
            mined_negatives=len(mined),
            queries=len(data.queries.queries) if data.queries else 0,
            exemplars=len(data.queries.exemplars) if data.queries else 0,
            learned_queries=data.learned_queries,
            trainable_parameters=sum(weight.numel() for weight in student.parameters() if weight.requires_grad),
            seconds={phase: round(value, 1) for phase, value in seconds.items()},
        )
        write_report(directory / "report.html", config, result, systems, records, data, noise, mined)
        run_files.write_result(directory, result)
        return result

    return distributed.from_main(conclude)


def _batch_sizes(config: TrainConfig) -> dict[str, int]:
    stages: dict[str, TeacherConfig | StageConfig] = {
        **({"teacher": config.teacher} if config.teacher.kind == "encoder" else {}),
        "alignment": config.alignment,
        "labels": config.labels,
    }
    return {f"{name}.batch_size": stage.batch_size for name, stage in stages.items() if stage.epochs}


def _load_teacher(config: TrainConfig) -> Teacher | None:
    if config.teacher.kind != "encoder":
        return None
    transformers.set_seed(config.seed)  # of weights from scratch
    model = resolve(config.teacher.source, weights=not config.teacher.from_scratch)
    options = config.teacher
    teacher = load_teacher(model, options.max_length, from_scratch=options.from_scratch, prompt=options.prompt)
    teacher.encoder.to(distributed.device())
    return teacher


def _with_length_of_vectors(config: TrainConfig, teacher: Teacher | None) -> TrainConfig:
    """The options with ``student.site_rank``, which may be left to the teacher."""
    student = config.student
    length = student.site_rank or (student.rank if teacher is None else teacher.dimension)
    return config.model_copy(update={"student": student.model_copy(update={"site_rank": length})})


def _with_precision(config: TrainConfig) -> TrainConfig:
    """The options with the precision that ``auto`` means on this machine; a run goes on in the one that it began in."""
    if config.precision != "auto":
        return config
    return config.model_copy(update={"precision": "bf16" if distributed.has_bf16() else "fp32"})


def _reshape(
    location: str, config: TrainConfig, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], directory: Path
) -> None:
    sample = np.random.default_rng(config.seed).permutation(len(texts))[: shrink.SAMPLE]
    tokens = tokenize(tokenizer, [texts[i] for i in sample], config.student.max_length)
    shrink.reshape(location, config.student, tokens, directory)


def _altered_copies(config: TrainConfig, data: TrainingData) -> list[str]:
    missing = config.alignment.fewest_texts - len(data.texts) if config.alignment.epochs else 0
    return altered_copies(data.texts, missing, without=data.held_out, seed=config.seed)


def _open(directory: Path, config: TrainConfig, data: TrainingData, *, overwrite: bool, resume: bool) -> None:
    if resume:
        run_files.reopen(directory, config)
    else:
        run_files.prepare(directory, overwrite=overwrite)
        run_files.write_config(directory, config)
    write_splits(data, directory / "splits")


def _no_encoder(config: TrainConfig) -> ModelReference:
    """What the manifest says of a teacher that is a column of the pairs, or of none."""
    if config.teacher.kind == "none":
        return ModelReference("none", "none", "none")
    source = f"column {config.data.teacher_score_column} of {config.data.pairs.name}"
    return ModelReference(source, sha256_of(config.data.pairs), "unknown")
