"""Sources of an export: the student of a run, its teacher, or any encoder with labelled pairs."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.manifest import WHOLE_ENCODER, EncoderSpec
from flipkd_sdk.errors import ConfigError, ModelSourceError, TrainingError
from flipkd_sdk.evaluation import calibration
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.exporters.encoders.encoder_path import extract
from flipkd_sdk.exporters.encoders.prompts import build_prompt_in
from flipkd_sdk.exporters.encoders.static_path import extract_table
from flipkd_sdk.exporters.encoders.whole_encoder import WholeEncoder, attention_of, longest_text
from flipkd_sdk.pairs import read_pairs, read_texts
from flipkd_sdk.training.evaluate_models import encode_with
from flipkd_sdk.training.head.files import read_head
from flipkd_sdk.training.models.sentence_modules import read_max_length
from flipkd_sdk.training.models.sources import ResolvedModel, resolve
from flipkd_sdk.training.models.static import StaticStudent
from flipkd_sdk.training.models.teacher import load_teacher
from flipkd_sdk.training.run_directory import trained_student

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.artifact.manifest import ModelReference
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.exporters.encoders.encoder_path import EncoderPath
    from flipkd_sdk.exporters.encoders.static_path import StaticPath
    from flipkd_sdk.pair_head.weights import HeadWeights
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.models.teacher import Teacher
    from flipkd_sdk.training.run_directory import FinishedRun

logger = logging.getLogger("flipkd_sdk")

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")

MAX_LENGTH = 256
"""Most tokens of a text for an encoder whose directory names no limit; attention grows with the square."""


@dataclass(frozen=True, slots=True, eq=False)
class ExportSource:
    """A torch encoder, its texts and its calibration."""

    path: EncoderPath | StaticPath | WholeEncoder
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    """Most tokens of a text."""
    spec: EncoderSpec
    student: ModelReference
    """The exported model, or the LLM that the student was trained on."""
    teacher: ModelReference
    """The same reference as ``student`` if nothing was distilled."""
    calibration: Calibration
    cosines: NDArray[np.float32]
    """Cosines of the development pairs in torch, shape (n,)."""
    splits: Mapping[str, Pairs]
    """``dev``, and ``test`` if there is one."""
    sample_texts: Sequence[str]
    """Texts to draw the sample batches from."""
    domain_texts: Callable[[], Sequence[str]]
    """Texts whose tokens a trimmed vocabulary keeps."""
    head: tuple[HeadWeights, Calibration] | None = None
    """The pair head, if one was trained."""
    run: FinishedRun | None = None
    """Run whose teacher has an opinion of unlabelled pairs; None if nothing was distilled."""
    training_texts: Sequence[str] = ()
    """Distinct texts that the model has learned, or at least texts of its domain."""


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """An encoder to export without a training run."""

    source: str
    """A directory, ``package:NAME`` or a hub id."""
    pairs: Path
    """Labelled development pairs, for calibration and verification."""
    texts: Path | None = None
    """Texts of the domain, for quantization ranges and for trimming; the pairs' texts set the ranges without them."""
    text_column: str = "text"
    max_length: int | None = None
    """Most tokens of a text; by default the directory's limit, at most 512, or `MAX_LENGTH`."""
    prompt: str | None = None
    """Text before every text; by default the directory's."""
    objective: str = "f1"
    """Objective of the threshold."""


def student_source(run: FinishedRun) -> ExportSource:
    """Return the student of a run.

    Raises:
        TrainingError: the run has no development pairs, or its base model has changed.
        ModelSourceError: the base model is missing.
        VerificationError: a weight is NaN or infinite.
    """
    dev = _dev(run)
    student, tokenizer = trained_student(run)
    options = run.config.student
    cosines = encoder_cosines(partial(encode_with, student, tokenizer), dev)
    result, head, maps = run.result, None, None
    if result.head is not None:
        weights, maps = read_head(run.directory)
        head = weights, result.head.calibration
    dimension = student.encoder_weight.shape[0]
    path: EncoderPath | StaticPath
    path = extract_table(student, maps) if isinstance(student, StaticStudent) else extract(student, maps)
    return ExportSource(
        path,
        tokenizer,
        options.max_length,
        EncoderSpec(options.layer, options.module, options.pooling, options.attention, dimension),
        result.student,
        result.teacher,
        result.calibration,
        cosines,
        _splits(run),
        (run.split("train") or dev).texts,
        partial(domain_texts, run),
        head,
        run,
        run.texts(),
    )


def teacher_source(run: FinishedRun) -> ExportSource:
    """Return the teacher of a run as it was after its fine-tuning.

    Raises:
        TrainingError: the run has no development pairs or no teacher that encodes texts, or the teacher has changed.
        ModelSourceError: the teacher is missing.
    """
    config, reference, dev = run.config.teacher, run.result.teacher, _dev(run)
    if config.kind != "encoder":
        raise TrainingError(f"{run.directory}: its teacher is no encoder (teacher.kind = {config.kind!r})")
    tuned = run.directory / "teacher"
    found = ResolvedModel(str(tuned), reference) if tuned.is_dir() else resolve(config.source)
    teacher = load_teacher(found, config.max_length, prompt=config.prompt)
    if not tuned.is_dir() and teacher.revision != reference.revision:
        raise TrainingError(f"{config.source}: its weights are not those that taught {run.directory}; bring them back")
    texts = (run.split("train") or dev).texts
    source = _encoder(replace(teacher, reference=reference), _splits(run), texts, run.config.objective)
    return replace(source, domain_texts=partial(domain_texts, run), training_texts=run.texts())


def encoder_source(choice: EncoderChoice) -> ExportSource:
    """Return an encoder that no run trained.

    Raises:
        ModelSourceError: there is no such encoder, or it needs something that is not supported.
        InvalidPairsError: the pairs or texts cannot be read, or do not allow a calibration.
        ConfigError: an option has an invalid value.
    """
    dev = read_pairs(choice.pairs)
    held_out = set(dev.texts)
    texts = [] if choice.texts is None else read_texts(choice.texts, column=choice.text_column)
    texts = [text for text in dict.fromkeys(texts) if text not in held_out]
    model = resolve(choice.source)
    _require_tokenizer(Path(model.location))
    own = read_max_length(Path(model.location))
    limit = choice.max_length or min(512, MAX_LENGTH if own is None else own)
    teacher = load_teacher(model, limit, prompt=choice.prompt)
    if choice.max_length is not None and teacher.max_length < choice.max_length:
        raise ConfigError(f"--max-length {choice.max_length}: {choice.source} reads up to {teacher.max_length} tokens")

    def domain() -> Sequence[str]:
        if not texts:
            raise ConfigError("--trim-vocab keeps the tokens of texts of the domain; name them with --texts")
        return texts

    source = _encoder(teacher, {"dev": dev}, texts or dev.texts, choice.objective)
    return replace(source, domain_texts=domain, training_texts=texts)


def domain_texts(run: FinishedRun) -> Sequence[str]:
    """Return the train and unlabelled texts of a run, without the texts of the development and test pairs."""
    held_out = {text for name in ("dev", "test") if (pairs := run.split(name)) is not None for text in pairs.texts}
    train = run.split("train")
    texts = list(train.texts) if train is not None else []
    file = run.config.data.texts
    if file is not None and file.is_file():
        texts += read_texts(file, column=run.config.data.text_column)
    elif file is not None:
        logger.warning("%s: missing, the vocabulary is trimmed to the texts of the train pairs only", file)
    return [text for text in dict.fromkeys(texts) if text not in held_out]


def _require_tokenizer(directory: Path) -> None:
    """Raise if a directory has no tokenizer, in place of which transformers would start an empty one."""
    if not any(next(directory.glob(name), None) for name in _TOKENIZER_FILES):
        raise ModelSourceError(f"{directory}: no tokenizer there (looked for {', '.join(_TOKENIZER_FILES)})")


def _encoder(teacher: Teacher, splits: Mapping[str, Pairs], texts: Sequence[str], objective: str) -> ExportSource:
    model, tokenizer, reference = teacher.encoder.model.eval(), teacher.tokenizer, teacher.reference
    max_length = longest_text(model, teacher.max_length)
    teacher = replace(teacher, max_length=max_length)
    rows, largest = model.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values(), default=0)
    if largest >= rows:
        raise ModelSourceError(
            f"{reference.source}: its tokenizer has token {largest} and its embedding has {rows} rows; "
            "the two are not of one model"
        )
    dev = splits["dev"]
    cosines = encoder_cosines(teacher.encode, dev)
    path = WholeEncoder(teacher.encoder).eval()
    spec = EncoderSpec(
        model.config.get_text_config().num_hidden_layers,
        WHOLE_ENCODER,
        path.pooling,
        attention_of(model),
        teacher.dimension,
    )
    return ExportSource(
        path,
        build_prompt_in(tokenizer, teacher.prompt, dev.texts),
        max_length,
        spec,
        reference,
        reference,
        calibration.fit(cosines, dev.label, objective=objective),
        cosines,
        splits,
        texts,
        lambda: texts,
    )


def _dev(run: FinishedRun) -> Pairs:
    dev = run.split("dev")
    if dev is None:
        raise TrainingError(f"{run.directory / 'splits' / 'dev.csv'}: missing, and variants are verified on it")
    return dev


def _splits(run: FinishedRun) -> dict[str, Pairs]:
    return {name: pairs for name in ("dev", "test") if (pairs := run.split(name)) is not None}
