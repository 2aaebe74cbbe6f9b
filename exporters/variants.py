"""Variants of a matcher, each built from the float32 graph and verified."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from flipkd_sdk.artifact.manifest import Drift, Manifest, Variant, sha256_of
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.exporters.directory.matcher_directory import write_manifest
from flipkd_sdk.exporters.graph.portable import make_portable
from flipkd_sdk.exporters.quantization.fp16 import convert_to_fp16
from flipkd_sdk.exporters.quantization.gptq import round_weights
from flipkd_sdk.exporters.quantization.int4 import quantize_blockwise
from flipkd_sdk.exporters.quantization.int8 import quantize_embedding, quantize_linear_layers
from flipkd_sdk.exporters.quantization.sensitivity import most_sensitive
from flipkd_sdk.exporters.verification import enforce, measure_drift, violations
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx.instruction_sets import instruction_sets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.artifact.limits import Limits
    from flipkd_sdk.exporters.quantization.activations import InputStatistics
    from flipkd_sdk.exporters.quantization.sample_batches import Batch
    from flipkd_sdk.pairs import Pairs

logger = logging.getLogger("flipkd_sdk.exporters")

_UNMEASURED = Drift(1.0, 0.0, 0.0, 0.0, 0.0)
"""Placeholder in the working directory's manifest while a variant is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class ExportContext:
    """Directory, pairs and limits that all variants of an export share."""

    working: Path
    """Working directory with the tokenizer and the finished variants."""
    dev: Pairs
    """Labelled development pairs that every variant is measured on."""
    limits: Mapping[str, Limits]
    """Limits by precision."""
    portable: bool = False
    """Write graphs of opset 17."""


def add_fp32(
    manifest: Manifest, graph: ir.Model, context: ExportContext, torch_cosines: NDArray[np.float32]
) -> Manifest:
    """Add the float32 variant, verified against the student in torch.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: the variant exceeds its limits.
    """
    return _add(manifest, "fp32", [graph], context, torch_cosines)


def fp32_cosines(manifest: Manifest, context: ExportContext) -> NDArray[np.float32]:
    """Return the float32 cosines of the development pairs, the reference of all other variants, shape (n,)."""
    write_manifest(context.working, manifest)
    with Matcher.load(context.working, precision="fp32", device="cpu", on_truncate="ignore") as matcher:
        return encoder_cosines(matcher.encode, context.dev)


def add_fp16(
    manifest: Manifest,
    graph: ir.Model,
    batches: Sequence[Batch],
    context: ExportContext,
    reference: NDArray[np.float32],
) -> Manifest:
    """Add the float16 variant, verified on the CPU against the float32 variant.

    Args:
        manifest: manifest with the finished variants.
        graph: the float32 graph.
        batches: sample inputs that determine the range of each value.
        context: directory, pairs and limits of the export.
        reference: cosines of the float32 variant.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: the variant exceeds its limits.
    """
    return _add(manifest, "fp16", [convert_to_fp16(graph, batches, context.working)], context, reference)


def add_int4(
    manifest: Manifest,
    smoothed: ir.Model,
    statistics: Mapping[str, InputStatistics],
    context: ExportContext,
    reference: NDArray[np.float32],
) -> Manifest:
    """Add the int4 variant, verified against the float32 variant.

    Args:
        manifest: manifest with the finished variants.
        smoothed: the float32 graph after SmoothQuant.
        statistics: statistics of the linear layers' inputs, by value name.
        context: directory, pairs and limits of the export.
        reference: cosines of the float32 variant.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: the variant exceeds its limits.
    """
    return _add(manifest, "int4", [quantize_blockwise(smoothed, statistics)], context, reference)


def add_int8(
    manifest: Manifest,
    smoothed: ir.Model,
    statistics: Mapping[str, InputStatistics],
    batches: Sequence[Batch],
    context: ExportContext,
    reference: NDArray[np.float32],
) -> Manifest:
    """Add the int8 variant, verified against the float32 variant.

    The first of these steps that is within the limits is used: a scale per token for inputs with outlying tokens, a
    scale per token for all inputs, and float32 for the one, two, four … most sensitive layers, up to half of them.

    Args:
        manifest: manifest with the finished variants.
        smoothed: the float32 graph after SmoothQuant.
        statistics: statistics of the linear layers' inputs, by value name.
        batches: sample inputs that determine the sensitive layers.
        context: directory, pairs and limits of the export.
        reference: cosines of the float32 variant.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: the variant exceeds its limits at every step.
    """
    logger.info("int8: rounding the weights")
    weights = round_weights(smoothed, statistics)
    float_layers = smoothed.clone()
    quantize_embedding(float_layers)
    models = (
        quantize_linear_layers(float_layers, weights, statistics, scale_tokens=scale_tokens, keep=kept)
        for scale_tokens, kept in _attempts(smoothed, statistics, batches, context.working)
    )
    return _add(manifest, "int8", models, context, reference)


def _attempts(
    smoothed: ir.Model, statistics: Mapping[str, InputStatistics], batches: Sequence[Batch], working: Path
) -> Iterator[tuple[bool, list[str]]]:
    """Yield ``scale_tokens`` and the layers to keep in float32, from the cheapest step on."""
    yield False, []
    yield True, []
    logger.info("int8: ranking the layers by how much their rounding moves the vectors")
    ranking = most_sensitive(smoothed, statistics, batches, working)
    half = len(ranking) // 2
    count = 1
    while count < half:
        yield True, ranking[:count]
        count *= 2
    if half:
        yield True, ranking[:half]


def _add(
    manifest: Manifest,
    precision: str,
    models: Iterable[ir.Model],
    context: ExportContext,
    reference: NDArray[np.float32],
) -> Manifest:
    """Write and measure one model after the other, up to the first within the limits.

    Raises:
        VerificationError: no model is; the message contains the figures of the last one.
    """
    limits = context.limits[precision]
    for model in models:
        ir.save(make_portable(model) if context.portable else model, context.working / _file(precision))
        variant = _measure(manifest, context.working, precision, context.dev, reference)
        outside = violations(variant.drift, limits)
        logger.info("%s: %s", precision, "; ".join(outside) or "within its limits")
        if not outside:
            break
    enforce(precision, variant.drift, limits)
    return _with(manifest, precision, variant)


def _measure(manifest: Manifest, working: Path, precision: str, dev: Pairs, reference: NDArray[np.float32]) -> Variant:
    """Return the description of a written variant, with its drift measured through the public `Matcher`."""
    file = working / _file(precision)
    variant = Variant(
        file=file.name,
        sha256=sha256_of(file),
        bytes=file.stat().st_size,
        providers=("CPUExecutionProvider",),
        instruction_sets=instruction_sets(),
        drift=_UNMEASURED,
    )
    write_manifest(working, _with(manifest, precision, variant))
    return replace(variant, drift=measure_drift(working, precision, dev, reference))


def _with(manifest: Manifest, precision: str, variant: Variant) -> Manifest:
    return replace(manifest, variants={**manifest.variants, precision: variant})


def _file(precision: str) -> str:
    return f"model_{precision}.onnx"
