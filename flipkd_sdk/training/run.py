"""A training run from top to bottom: pairs → teacher → student → calibration → run directory."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import transformers

from flipkd_sdk import __version__
from flipkd_sdk.artifact.manifest import ModelReference, sha256_of
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.pairs import fold_numbers
from flipkd_sdk.training import distributed
from flipkd_sdk.training import run_directory as run_files
from flipkd_sdk.training.data.augmentation import altered_copies
from flipkd_sdk.training.data.corpus import build_corpus
from flipkd_sdk.training.data.datasets import PairDataset
from flipkd_sdk.training.data.noise_filter import filter_noise
from flipkd_sdk.training.data.splits import TrainingData, read_data, write_splits
from flipkd_sdk.training.data.validation import prepare_validation
from flipkd_sdk.training.evaluate_models import encode_with, evaluate_student
from flipkd_sdk.training.head.add import add_head
from flipkd_sdk.training.loop.trackers import check_installed
from flipkd_sdk.training.models.pruning import shrink
from flipkd_sdk.training.models.pruning.mlp_pruning import check_width
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.static import create_static_student, without_adapters
from flipkd_sdk.training.models.student import create_student, load_tokenizer
from flipkd_sdk.training.models.teacher import Teacher, load_teacher
from flipkd_sdk.training.prompts import prompt_pairs
from flipkd_sdk.training.report.verdict import conclude
from flipkd_sdk.training.report.write import write_report
from flipkd_sdk.training.run_directory import RunResult
from flipkd_sdk.training.stages import prepare_teacher, train_student
from flipkd_sdk.training.tokens import tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flipkd_sdk.evaluation.bootstrap import Interval
    from flipkd_sdk.evaluation.evaluate import Evaluation
    from flipkd_sdk.training.config.schema import StageConfig, TeacherConfig, TrainConfig
    from flipkd_sdk.training.data.corpus import Corpus
    from flipkd_sdk.training.data.noise_filter import NoiseFilter
    from flipkd_sdk.training.head.add import AddedHead
    from flipkd_sdk.training.head.files import HeadResult
    from flipkd_sdk.training.models.committee import Committee
    from flipkd_sdk.training.models.sources import ResolvedModel
    from flipkd_sdk.training.models.student import AnyStudent


@dataclass(slots=True, eq=False)
class _Run:
    """State of a run, filled from step to step."""

    config: TrainConfig
    directory: Path
    resume: bool
    data: TrainingData
    source: ResolvedModel
    """The LLM that the student is made of."""
    student: AnyStudent
    tokenizer: PreTrainedTokenizerBase
    untuned: Teacher | None
    """The teacher as it was loaded."""
    teacher: Teacher | Committee | None = None
    """The teacher that the student learns from."""
    systems: dict[str, Evaluation] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    """Measures of the student on the validation texts."""
    head: AddedHead | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Record the wall time of a phase."""
        started = time.monotonic()
        yield
        self.seconds[phase] = round(time.monotonic() - started, 1)


def train(config: TrainConfig, directory: Path, *, overwrite: bool = False, resume: bool = False) -> RunResult:
    """Train a student and write the run directory.

    With several processes (see `flipkd_sdk.training.distributed`) the main one writes, and all return the result.

    Args:
        config: all options.
        directory: the run directory; created.
        overwrite: replace an earlier run in it.
        resume: continue an earlier run with the same options; the result of a finished run is returned.

    Raises:
        OutputExistsError: the directory exists already.
        InvalidPairsError: the pairs or texts cannot be used.
        ModelSourceError: the teacher or the student cannot be loaded.
        ConfigError: options contradict each other.
        TrainingError: a loss became NaN or infinite, or memory ran out.
    """
    distributed.start()
    resume = resume and (directory / run_files.CONFIG_FILE).is_file()
    if resume and (directory / run_files.RESULT_FILE).is_file():
        return run_files.read_run(directory).result

    run = _prepare(config, directory, overwrite=overwrite, resume=resume)
    with run.timed("teacher"):
        run.systems, run.teacher = prepare_teacher(run.config, run.untuned, run.data, directory, resume=resume)
    with run.timed("teacher vectors"):
        copies = _altered_copies(run)
        corpus = build_corpus(run.data.texts, run.teacher, run.student, run.tokenizer, copies=copies)
    with run.timed("student"):
        noise = _filter_noise(run, corpus)
        pairs = _labelled_pairs(run, corpus, noise)
        validation = prepare_validation(run.data.validation_texts, run.teacher, corpus)
        records = train_student(
            run.config,
            run.student,
            run.tokenizer,
            pairs,
            run.data.dev,
            run.teacher,
            directory,
            validation=validation,
            resume=resume,
        )
        run.systems |= distributed.broadcast_from_main(
            partial(evaluate_student, run.config, run.student, run.tokenizer, run.data)
        )
        if validation is not None:
            encode = partial(encode_with, run.student, run.tokenizer)
            run.validation = distributed.broadcast_from_main(partial(validation.measures, encode))
    with run.timed("head"):
        head = distributed.broadcast_from_main(partial(_add_head, run, noise))
    return distributed.broadcast_from_main(partial(_finish, run, corpus, noise, records, head))


def _prepare(config: TrainConfig, directory: Path, *, overwrite: bool, resume: bool) -> _Run:
    """Read and load everything that a run needs, and open its directory."""
    # Errors in the inputs are raised before an earlier run is replaced and before hours are spent. The main process
    # comes first: it reports the errors, and it converts models that the others then find.
    with distributed.main_first():
        check_installed(config.report_to)
        distributed.refuse_indivisible(_batch_sizes(config))
        if not resume:
            run_files.check_output(directory, overwrite=overwrite)
        data = read_data(config.data, seed=config.seed, teacher_scores=config.teacher.kind == "scores")
        _check_folds(config, data)
        source = resolve(config.student.source)
        teacher = _load_teacher(config)
    config = _with_precision(_with_vector_length(without_adapters(config), teacher))
    transformers.set_seed(config.seed)
    tokenizer = load_tokenizer(source.location)
    student = _create_student(source, config)
    # The student's options contain the index of the block that layer = -1 means in this LLM.
    config = config.model_copy(update={"student": student.options})
    run = _Run(config, directory, resume, data, source, student, tokenizer, teacher)
    distributed.broadcast_from_main(partial(_open_directory, run, overwrite=overwrite))
    if config.student.mlp_width is not None:
        distributed.broadcast_from_main(partial(_shrink, run))
        run.student = create_student(str(directory / run_files.BASE), config.student)
    run.student.to(distributed.device())
    return run


def _create_student(source: ResolvedModel, config: TrainConfig) -> AnyStudent:
    if config.student.is_static:
        return create_static_student(source.location, config.student)
    student = create_student(source.location, config.student, full_model=config.loss.label_lm > 0)
    check_width(cast("PreTrainedModel", student.model.get_base_model()), config.student)
    return student


def _batch_sizes(config: TrainConfig) -> dict[str, int]:
    stages: dict[str, TeacherConfig | StageConfig] = {
        **({"teacher": config.teacher} if config.teacher.kind == "encoder" else {}),
        "alignment": config.alignment,
        "labels": config.labels,
    }
    return {f"{name}.batch_size": stage.batch_size for name, stage in stages.items() if stage.epochs}


def _check_folds(config: TrainConfig, data: TrainingData) -> None:
    if config.teacher.folds > 1:
        try:
            fold_numbers(data.train, config.teacher.folds, seed=config.seed)
        except InvalidPairsError as error:
            raise InvalidPairsError(f"teacher.folds = {config.teacher.folds}: {error}") from None


def _load_teacher(config: TrainConfig) -> Teacher | None:
    if config.teacher.kind != "encoder":
        return None
    transformers.set_seed(config.seed)  # Weights from scratch are drawn here.
    model = resolve(config.teacher.source, weights=not config.teacher.from_scratch)
    options = config.teacher
    model = replace(model, reference=run_files.origin_of_teacher(model))
    teacher = load_teacher(model, options.max_length, from_scratch=options.from_scratch, prompt=options.prompt)
    teacher.encoder.to(distributed.device())
    return teacher


def _with_vector_length(config: TrainConfig, teacher: Teacher | None) -> TrainConfig:
    """Set ``student.site_rank`` to its default, the length of the teacher's vectors, unless it is given."""
    student = config.student
    length = student.site_rank or (student.rank if teacher is None else teacher.dimension)
    return config.model_copy(update={"student": student.model_copy(update={"site_rank": length})})


def _with_precision(config: TrainConfig) -> TrainConfig:
    """Replace ``auto`` by the precision of this machine, in which the run also resumes."""
    if config.precision != "auto":
        return config
    return config.model_copy(update={"precision": "bf16" if distributed.has_bf16() else "fp32"})


def _open_directory(run: _Run, *, overwrite: bool) -> None:
    if run.resume:
        run_files.reopen(run.directory, run.config)
    else:
        run_files.prepare(run.directory, overwrite=overwrite)
        run_files.write_config(run.directory, run.config)
    write_splits(run.data, run.directory / "splits")


def _shrink(run: _Run) -> None:
    texts = run.data.texts
    sample = np.random.default_rng(run.config.seed).permutation(len(texts))[: shrink.SAMPLE]
    tokens = tokenize(run.tokenizer, [texts[i] for i in sample], run.config.student.max_length)
    shrink.reshape(run.source.location, run.config.student, tokens, run.directory / run_files.BASE)


def _altered_copies(run: _Run) -> list[str]:
    alignment = run.config.alignment
    if run.teacher is None or not alignment.epochs:
        return []
    missing = alignment.fewest_texts - len(run.data.texts)
    return altered_copies(run.data.texts, missing, without=run.data.held_out, seed=run.config.seed)


def _filter_noise(run: _Run, corpus: Corpus) -> NoiseFilter:
    scores, label = corpus.teacher_scores(run.data.train), run.data.train.label
    return distributed.broadcast_from_main(partial(filter_noise, scores, label, run.config.noise_filter))


def _labelled_pairs(run: _Run, corpus: Corpus, noise: NoiseFilter) -> PairDataset:
    config, prompts = run.config, None
    if config.loss.label_lm > 0:
        prompts = prompt_pairs(run.tokenizer, run.data.train, config.prompt, max_length=config.student.max_length)
    return PairDataset(corpus, run.data.train, noise.keep, prompts)


def _add_head(run: _Run, noise: NoiseFilter) -> HeadResult | None:
    added = add_head(run.config, run.student, run.tokenizer, run.data, noise.keep, run.teacher, run.directory)
    if added is None:
        return None
    run.systems["student with head"], run.head = added.evaluation, added
    return added.result


def _finish(
    run: _Run, corpus: Corpus, noise: NoiseFilter, records: list[dict[str, Any]], head: HeadResult | None
) -> RunResult:
    """Save the adapter, write the report and, last, the result."""
    run.student.save(run.directory / "adapter")
    data, queries, label = run.data, run.data.queries, run.data.train.label
    headline, sentences = conclude(run.systems, "test" if data.sizes["test"] else "dev")
    result = RunResult(
        sdk_version=__version__,
        student=run.source.reference,
        teacher=run.teacher.reference if run.teacher else _reference_without_encoder(run.config),
        calibration=run.systems["student"].calibration,
        head=head,
        **_measured(run.systems),
        pairs=data.sizes,
        texts=len(data.texts),
        altered_copies=len(corpus.tokens.token_ids) - len(data.texts),
        truncated_texts=corpus.tokens.truncated,
        validation_texts=len(data.validation_texts) if run.validation else 0,
        validation=run.validation,
        dropped_positives=len(noise.dropped(label, 1)),
        dropped_negatives=len(noise.dropped(label, 0)),
        queries=len(queries.queries) if queries else 0,
        exemplars=len(queries.exemplars) if queries else 0,
        learned_queries=data.learned_queries,
        verdict=[headline, *sentences],
        trainable_parameters=sum(weight.numel() for weight in run.student.parameters() if weight.requires_grad),
        seconds=run.seconds,
    )
    behaviour, contrast = (None, None) if run.head is None else (run.head.behaviour, run.head.contrast)
    write_report(
        run.directory / "report.html",
        run.config,
        result,
        run.systems,
        records,
        data,
        noise,
        behaviour=behaviour,
        contrast=contrast,
    )
    run_files.write_result(run.directory, result)
    return result


def _reference_without_encoder(config: TrainConfig) -> ModelReference:
    """Return the manifest's reference of a teacher that is a column of the pairs, or of no teacher."""
    if config.teacher.kind == "none":
        return ModelReference("none", "none", "none")
    source = f"column {config.data.teacher_score_column} of {config.data.pairs.name}"
    return ModelReference(source, sha256_of(config.data.pairs), "unknown")


def _measured(systems: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Return the fields of `RunResult` with measures, retrieval and their intervals, by system."""
    retrieval = {name: system.retrieval for name, system in systems.items() if system.retrieval is not None}
    return {
        "measures": {name: system.measures for name, system in systems.items()},
        "intervals": {
            name: {split: _bounds(intervals) for split, intervals in system.intervals.items()}
            for name, system in systems.items()
        },
        "retrieval": {name: dict(measured.values) for name, measured in retrieval.items()},
        "retrieval_intervals": {name: _bounds(measured.intervals) for name, measured in retrieval.items()},
    }


def _bounds(intervals: Mapping[str, Interval]) -> dict[str, tuple[float, float]]:
    return {name: (interval.low, interval.high) for name, interval in intervals.items()}
