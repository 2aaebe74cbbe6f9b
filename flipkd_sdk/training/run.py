"""A training run from top to bottom: pairs → teacher → student → calibration → run directory."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers

from flipkd_sdk import __version__
from flipkd_sdk.errors import InvalidPairsError, TrainingError
from flipkd_sdk.manifest import ModelReference, sha256_of
from flipkd_sdk.training import reshaping
from flipkd_sdk.training import run_directory as run_files
from flipkd_sdk.training.batches import Corpus, PairDataset, TextDataset, TokenizedTexts, encode, tokenize
from flipkd_sdk.training.data import TrainingData, read_data, write_splits
from flipkd_sdk.training.evaluation import Evaluation, average_precision, evaluate, evaluate_scores
from flipkd_sdk.training.initialization import initialize_encoder
from flipkd_sdk.training.mining import join, mine_negatives
from flipkd_sdk.training.narrowing import check_width
from flipkd_sdk.training.noise_filter import filter_noise
from flipkd_sdk.training.objective import flipped_distillation
from flipkd_sdk.training.prompt import prompt_pairs, yes_probabilities
from flipkd_sdk.training.report import write_report
from flipkd_sdk.training.run_directory import RunResult
from flipkd_sdk.training.sources import default_cache_dir, resolve
from flipkd_sdk.training.student import Student, create_student, load_tokenizer
from flipkd_sdk.training.teacher import Teacher, alignment_targets, fine_tune, load_teacher
from flipkd_sdk.training.teacher_cache import cached_vectors
from flipkd_sdk.training.trainer import Stage, train_stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.significance import Interval
    from flipkd_sdk.training.config import TrainConfig

logger = logging.getLogger("flipkd_sdk")


def train(config: TrainConfig, directory: Path, *, overwrite: bool = False, resume: bool = False) -> RunResult:
    """Train a student and write the run directory.

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
        TrainingError: a loss became NaN or infinite.
    """
    # Whatever can be wrong with the inputs comes out before an earlier run is replaced and before hours are spent.
    resume = resume and (directory / run_files.CONFIG_FILE).is_file()
    if resume and (directory / run_files.RESULT_FILE).is_file():
        return run_files.read_run(directory).result
    if not resume:
        run_files.check_output(directory, overwrite=overwrite)
    data = read_data(config.data, seed=config.seed, teacher_scores=config.teacher.kind == "scores")
    student_model = resolve(config.student.source)
    transformers.set_seed(config.seed)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    teacher = None
    if config.teacher.kind == "encoder":
        teacher_model = resolve(config.teacher.source, weights=not config.teacher.from_scratch)
        teacher = load_teacher(teacher_model, config.teacher.max_length, from_scratch=config.teacher.from_scratch)
        teacher.encoder.to(device)
    tokenizer = load_tokenizer(student_model.location)
    whole = config.loss.label_lm > 0
    student = create_student(student_model.location, config.student, whole=whole).to(device)
    check_width(student.model.get_base_model(), config.student)
    config = config.model_copy(update={"student": student.options})  # which says where in this LLM the last block is
    if resume:
        run_files.reopen(directory, config)
    else:
        run_files.prepare(directory, overwrite=overwrite)
        run_files.write_config(directory, config)
    write_splits(data, directory / "splits")
    if config.student.reshaped:
        sample = np.random.default_rng(config.seed).permutation(len(data.texts))[: reshaping.SAMPLE]
        tokens = tokenize(tokenizer, [data.texts[i] for i in sample], config.student.max_length)
        reshaping.reshape(student_model.location, config.student, tokens, directory / run_files.BASE)
        student = create_student(str(directory / run_files.BASE), config.student).to(device)

    seconds: dict[str, float] = {}
    started = time.monotonic()
    systems, teacher = prepare_teacher(config, teacher, data, directory, resume=resume)
    seconds["teacher"] = time.monotonic() - started

    corpus = build_corpus(data.texts, teacher, student, tokenizer)
    seconds["teacher vectors"] = time.monotonic() - started - sum(seconds.values())

    noise = filter_noise(corpus.teacher_scores(data.train), data.train.label, config.noise_filter)
    mined = mine_negatives(corpus, data.train, config.mining)
    labelled = PairDataset(
        corpus,
        pairs := join(data.train, mined),
        np.append(noise.keep, np.ones(len(mined), dtype=bool)),
        prompt_pairs(tokenizer, pairs, config.prompt, max_length=config.student.max_length) if whole else None,
    )
    records = train_student(config, student, tokenizer, labelled, data.dev, directory, resume=resume)
    encode_texts = partial(encode_with, student, tokenizer)
    systems["student"] = evaluate(encode_texts, data.dev, data.test, objective=config.objective, queries=data.queries)
    if whole:
        try:
            systems["student's answer"] = evaluate_answers(config, student, tokenizer, data)
        except InvalidPairsError as error:  # the encoder path is the product, and it is trained
            logger.warning("the student's own answer, its decoder path, is left out of the report: %s", error)
    student.model.save_pretrained(str(directory / "adapter"))
    seconds["student"] = time.monotonic() - started - sum(seconds.values())

    retrieval = {name: system.retrieval for name, system in systems.items() if system.retrieval is not None}
    result = RunResult(
        sdk_version=__version__,
        student=student_model.reference,
        teacher=teacher.reference if teacher else _no_encoder(config),
        calibration=systems["student"].calibration,
        measures={name: system.measures for name, system in systems.items()},
        intervals={
            name: {split: _bounds(found) for split, found in system.intervals.items()}
            for name, system in systems.items()
        },
        pairs=data.sizes,
        texts=len(corpus.position),
        truncated_texts=corpus.tokens.truncated,
        dropped_positives=len(noise.dropped(data.train.label, 1)),
        dropped_negatives=len(noise.dropped(data.train.label, 0)),
        mined_negatives=len(mined),
        queries=len(data.queries.queries) if data.queries else 0,
        exemplars=len(data.queries.exemplars) if data.queries else 0,
        learned_queries=data.learned_queries,
        retrieval={name: dict(found.values) for name, found in retrieval.items()},
        retrieval_intervals={name: _bounds(found.intervals) for name, found in retrieval.items()},
        trainable_parameters=sum(weight.numel() for weight in student.parameters() if weight.requires_grad),
        seconds={phase: round(value, 1) for phase, value in seconds.items()},
    )
    write_report(directory / "report.html", config, result, systems, records, data, noise, mined)
    run_files.write_result(directory, result)
    return result


def _bounds(intervals: Mapping[str, Interval]) -> dict[str, tuple[float, float]]:
    return {name: (interval.low, interval.high) for name, interval in intervals.items()}


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
        scores = evaluate_scores(_given_scores, data.dev, data.test, objective=config.objective)
        return {"teacher": scores}, None

    def measure(teacher: Teacher) -> Evaluation:
        encode_texts = partial(cached_vectors, teacher, directory=default_cache_dir() / "teacher_vectors")
        return evaluate(encode_texts, data.dev, data.test, objective=config.objective, queries=data.queries)

    systems = {}
    if config.teacher.epochs:
        if not config.teacher.from_scratch:
            systems["teacher as is"] = measure(teacher)
        teacher = fine_tune(
            teacher,
            data.train,
            config.teacher,
            development=partial(average_precision, teacher.encode, data.dev),
            run_directory=directory,
            seed=config.seed,
            resume=resume,
            bf16=computes_in_bf16(config),
        )
    systems["teacher"] = measure(teacher)
    return systems, teacher


def _given_scores(pairs: Pairs) -> NDArray[np.float32]:
    if pairs.teacher_score is None:
        raise TrainingError("the pairs have no teacher scores")
    return pairs.teacher_score


def _no_encoder(config: TrainConfig) -> ModelReference:
    """What the manifest says of a teacher that is a column of the pairs, or of none."""
    if config.teacher.kind == "none":
        return ModelReference("none", "none", "none")
    source = f"column {config.data.teacher_score_column} of {config.data.pairs.name}"
    return ModelReference(source, sha256_of(config.data.pairs), "unknown")


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


def build_corpus(
    texts: Sequence[str], teacher: Teacher | None, student: Student, tokenizer: PreTrainedTokenizerBase
) -> Corpus:
    """Tokenize the texts for the student and show each to the teacher once."""
    tokens = tokenize(tokenizer, texts, student.options.max_length)
    _warn_of_cut(tokens, "student", student.options.max_length)
    position = {text: i for i, text in enumerate(texts)}
    if teacher is None:
        return Corpus(position, tokens, None, None)
    _warn_of_cut(tokenize(teacher.tokenizer, texts, teacher.max_length), "teacher", teacher.max_length)
    vectors = cached_vectors(teacher, texts, default_cache_dir() / "teacher_vectors")
    targets = alignment_targets(vectors, student.encoder_weight.shape[0])
    return Corpus(position, tokens, torch.from_numpy(vectors), torch.from_numpy(targets))


def _warn_of_cut(tokens: TokenizedTexts, model: str, limit: int) -> None:
    if tokens.truncated:
        message = "%d of %d texts are longer than %s.max_length = %d tokens"
        logger.warning(message, tokens.truncated, len(tokens.token_ids), model, limit)


def train_student(
    config: TrainConfig,
    student: Student,
    tokenizer: PreTrainedTokenizerBase,
    labelled: PairDataset,
    dev: Pairs,
    directory: Path,
    *,
    resume: bool = False,
) -> list[dict[str, Any]]:
    """Initialize A, align with the teacher on all texts, then learn the labels; the student is left at its best.

    Args:
        config: all options.
        student: starts as it was loaded.
        tokenizer: the student's.
        labelled: the train pairs, with the corpus of all texts.
        dev: the development pairs.
        directory: the run directory.
        resume: go on from the last checkpoints, if there are any.

    Returns:
        The records of both stages.
    """
    corpus = labelled.corpus
    initialize_encoder(student, corpus, seed=config.seed)

    def stage(name: str) -> Stage:
        learns_labels = name == "labels"
        return Stage(
            name=name,
            model=student,
            dataset=labelled if learns_labels else TextDataset(corpus),
            objective=partial(flipped_distillation, config=config.loss),
            config=config.labels if learns_labels else config.alignment,
            development=lambda: average_precision(partial(encode_with, student, tokenizer), dev),
            run_directory=directory,
            seed=config.seed,
            resume=resume,
            bf16=computes_in_bf16(config),
        )

    # The alignment stage learns the teacher's vectors of single texts.
    names = ["labels"] if corpus.teacher is None else ["alignment", "labels"]
    return [record for name in names for record in train_stage(stage(name))]


def computes_in_bf16(config: TrainConfig) -> bool:
    """Whether training computes in bfloat16: where it is asked for, or where a GPU has it."""
    has_it = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision == "bf16" or (config.precision == "auto" and has_it)


def encode_with(student: Student, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> NDArray[np.float32]:
    """The student's unit vectors of n texts, float32 (n, r), in evaluation mode."""
    device = student.encoder_weight.device
    return encode(tokenize(tokenizer, texts, student.options.max_length), student.eval(), device=device)
