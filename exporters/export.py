"""Export from top to bottom: source → graph → verified variants → matcher directory."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.limits import LIMITS, Limits
from flipkd_sdk.artifact.manifest import TOKEN_TABLE, HeadSpec, sha256_of
from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation import calibration, metrics
from flipkd_sdk.exporters.directory.familiarity import add_familiarity
from flipkd_sdk.exporters.directory.matcher_directory import describe, write_manifest
from flipkd_sdk.exporters.directory.profile import add_profile
from flipkd_sdk.exporters.directory.publishing import publishing
from flipkd_sdk.exporters.directory.reference_vectors import add_self_test
from flipkd_sdk.exporters.directory.search_threshold import add_search_threshold
from flipkd_sdk.exporters.encoders.sources import encoder_source, student_source, teacher_source
from flipkd_sdk.exporters.graph.translation import export_graph
from flipkd_sdk.exporters.quantization.activations import channel_maxima, input_statistics
from flipkd_sdk.exporters.quantization.sample_batches import sample_batches
from flipkd_sdk.exporters.quantization.smoothquant import smooth
from flipkd_sdk.exporters.variants import ExportContext, add_fp16, add_fp32, add_int4, add_int8, fp32_cosines
from flipkd_sdk.exporters.vocabulary.trimming import STATIC_VOCABULARY_SIZE, trim_vocabulary
from flipkd_sdk.pair_head.weights import FILE, write_weights
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.exporters.encoders.sources import EncoderChoice, ExportSource
    from flipkd_sdk.exporters.quantization.sample_batches import Batch
    from flipkd_sdk.exporters.vocabulary.trimming import TrimmedEncoder

logger = logging.getLogger("flipkd_sdk.exporters")

PRECISIONS = ("fp32", "fp16", "int8", "int4")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Variants to write, their quantization and their limits."""

    variants: tuple[str, ...] = ("int8",)
    """Variants to keep in the matcher directory, of `PRECISIONS`."""
    alpha: float = 0.75
    """SmoothQuant's migration strength α."""
    sample_texts: int = 512
    """Largest number of texts in the sample batches."""
    limits: Mapping[str, Limits] = field(default_factory=lambda: LIMITS)
    """Limits by precision."""
    seed: int = 0
    """Seed of the draw of the sample batches."""
    portable: bool = False
    """Use operators of opset 17 only, which older and other runtimes have."""
    vocabulary_size: int | None = None
    """Size of the trimmed vocabulary, in tokens; None to keep the full vocabulary, or a static student's default."""
    search_precision: float = 0.95
    """Share of right answers that the search threshold is fitted for."""

    def __post_init__(self) -> None:
        for precision in self.variants:
            if precision not in PRECISIONS:
                raise ConfigError(f"unknown variant {precision!r}; there are: {', '.join(PRECISIONS)}")
        if self.portable and (others := set(self.variants) & {"fp16", "int4"}):
            raise ConfigError(f"--portable: int8 and fp32 can be portable, {min(others)} is made for one runtime")
        if not self.variants:
            raise ConfigError(f"no variant to export; choose from: {', '.join(PRECISIONS)}")
        if not 0.0 <= self.alpha <= 1.0:
            raise ConfigError(f"alpha must be in [0, 1]; it is {self.alpha}")
        if self.sample_texts < 1:
            raise ConfigError(f"sample_texts must be at least 1; it is {self.sample_texts}")
        if self.vocabulary_size is not None and self.vocabulary_size < 0:
            raise ConfigError(f"vocabulary_size must be at least 0; it is {self.vocabulary_size}")
        if not 0.0 < self.search_precision < 1.0:
            raise ConfigError(f"search_precision must be between 0 and 1; it is {self.search_precision}")


def export(
    run_directory: Path,
    out: Path,
    options: ExportOptions | None = None,
    *,
    overwrite: bool = False,
    system: str = "student",
) -> Manifest:
    """Export a finished training run as a matcher directory; a failed export leaves nothing.

    Args:
        run_directory: made by `flipkd_sdk.training.run.train`.
        out: matcher directory to write; it appears under its name when it is complete.
        options: variants, quantization and limits.
        overwrite: replace an existing matcher directory.
        system: ``student``, or ``teacher`` for the encoder that taught it.

    Raises:
        TrainingError: the run is not finished, its base model has changed, or it has no such system.
        ModelSourceError: the base model is missing.
        OutputExistsError: ``out`` exists and may not be replaced.
        VerificationError: the model cannot be translated, or a variant exceeds its limits.
        OSError: ``out`` cannot be written.
    """
    with publishing(out, overwrite=overwrite) as working:
        run = read_run(run_directory)
        logger.info("encoding the development pairs with the %s", system)
        source = teacher_source(run) if system == "teacher" else student_source(run)
        return _build(source, working, options or ExportOptions())


def export_encoder(
    choice: EncoderChoice, out: Path, options: ExportOptions | None = None, *, overwrite: bool = False
) -> Manifest:
    """Export an encoder that no run trained as a matcher directory; a failed export leaves nothing.

    Args:
        choice: the encoder, its labelled pairs and its options.
        out: matcher directory to write; it appears under its name when it is complete.
        options: variants, quantization and limits.
        overwrite: replace an existing matcher directory.

    Raises:
        ModelSourceError: there is no such encoder, or it needs something that is not supported.
        InvalidPairsError: the pairs or texts cannot be read, or do not allow a calibration.
        ConfigError: an option has an invalid value.
        OutputExistsError: ``out`` exists and may not be replaced.
        VerificationError: the encoder cannot be translated, or a variant exceeds its limits.
        OSError: ``out`` cannot be written.
    """
    with publishing(out, overwrite=overwrite) as working:
        logger.info("encoding the development pairs with the encoder")
        return _build(encoder_source(choice), working, options or ExportOptions())


def _build(source: ExportSource, working: Path, options: ExportOptions) -> Manifest:
    dev, tokenizer, torch_cosines, trimmed = source.splits["dev"], source.tokenizer, source.cosines, None
    smaller = _trimmed(source, options.vocabulary_size)
    if smaller is not None:
        tokenizer, torch_cosines, trimmed = smaller.tokenizer, smaller.cosines, smaller.report
        source = _recalibrated(source, smaller)
    manifest = describe(source, tokenizer, working)
    manifest = replace(manifest, trimmed_vocabulary=trimmed, head=_write_head(source, working))
    logger.info("translating the encoder to ONNX")
    graph = export_graph(source.path)
    context = ExportContext(working, dev, options.limits, portable=options.portable)
    manifest = add_fp32(manifest, graph, context, torch_cosines)
    if set(options.variants) != {"fp32"}:
        texts, count, length = source.sample_texts, options.sample_texts, source.max_length
        batches = sample_batches(tokenizer, texts, count=count, max_length=length, seed=options.seed)
        manifest = _add_smaller(manifest, graph, batches, context, options)

    for precision in set(manifest.variants) - set(options.variants):
        (working / manifest.variants[precision].file).unlink()
    variants = {precision: manifest.variants[precision] for precision in options.variants}
    manifest = add_self_test(replace(manifest, variants=variants), working)
    write_manifest(working, manifest)
    manifest = add_search_threshold(manifest, working, source.run, dev, precision=options.search_precision)
    manifest = add_familiarity(manifest, working, source.training_texts, dev.texts)
    write_manifest(working, manifest)
    manifest = add_profile(manifest, working, source.training_texts, source.splits.values())
    write_manifest(working, manifest)
    manifest = replace(manifest, metrics=_measures(source, working, options.variants))
    write_manifest(working, manifest)
    return manifest


def _trimmed(source: ExportSource, size: int | None) -> TrimmedEncoder | None:
    """Trim the vocabulary if a size is given, and that of a static student always."""
    static = source.spec.module == TOKEN_TABLE
    if size is None and not static:
        return None
    logger.info("trimming the vocabulary")
    try:
        return trim_vocabulary(source, size=STATIC_VOCABULARY_SIZE if size is None else size)
    except ConfigError as error:
        if size is not None:
            raise
        logger.warning("the matcher keeps the whole vocabulary and is larger for it: %s", error)
        return None


def _recalibrated(source: ExportSource, trimmed: TrimmedEncoder) -> ExportSource:
    """Return a static student calibrated with its trimmed vocabulary, which moves its cosines; a deep one as it is."""
    if source.spec.module != TOKEN_TABLE:
        return source
    fitted = calibration.fit(trimmed.cosines, source.splits["dev"].label, objective=source.calibration.objective)
    return replace(source, calibration=fitted)


def _write_head(source: ExportSource, working: Path) -> HeadSpec | None:
    """Write the weights of the pair head, if there is one, and describe them."""
    if source.head is None:
        return None
    weights, calibration = source.head
    file = working / FILE
    write_weights(file, weights)
    return HeadSpec(file.name, sha256_of(file), file.stat().st_size, weights.dimension, calibration)


def _add_smaller(
    manifest: Manifest, graph: ir.Model, batches: Sequence[Batch], context: ExportContext, options: ExportOptions
) -> Manifest:
    """Add the variants derived from the float32 graph, which is smoothed in place."""
    reference = fp32_cosines(manifest, context)
    if "fp16" in options.variants:
        manifest = add_fp16(manifest, graph, batches, context, reference)
    if {"int8", "int4"}.isdisjoint(options.variants):
        return manifest
    logger.info("smoothing with %d sample batches", len(batches))
    smooth(graph, channel_maxima(graph, batches, context.working), alpha=options.alpha)
    statistics = input_statistics(graph, batches, context.working)
    if "int8" in options.variants:
        manifest = add_int8(manifest, graph, statistics, batches, context, reference)
    if "int4" in options.variants:
        manifest = add_int4(manifest, graph, statistics, context, reference)
    return manifest


def _measures(source: ExportSource, working: Path, variants: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return the measures of `metrics.summary` for each held-out split and each variant, by cosine and by head."""
    measures = {}
    systems = {"": False} | ({" with head": True} if source.head is not None else {})
    for precision, (name, head) in itertools.product(variants, systems.items()):
        with Matcher.load(
            working, precision=precision, device="cpu", on_truncate="ignore", on_blank="score", head=head
        ) as matcher:
            for split, pairs in source.splits.items():
                score = matcher.score_pairs(zip(pairs.a, pairs.b, strict=True))
                measures[f"{split}/{precision}{name}"] = metrics.summary(score, pairs.label, matcher.threshold)
    return measures
