"""The variants of a matcher, each built from the float32 graph and proved before it counts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from flipkd_sdk.artifact.manifest import Drift, Manifest, Variant, sha256_of
from flipkd_sdk.exporters.matcher_directory import write_manifest
from flipkd_sdk.exporters.quantization.fp16 import convert_to_half
from flipkd_sdk.exporters.quantization.gptq import round_weights
from flipkd_sdk.exporters.quantization.int4 import quantize_blockwise
from flipkd_sdk.exporters.quantization.int8 import quantize_embedding, quantize_linear_layers
from flipkd_sdk.exporters.quantization.sensitivity import most_sensitive
from flipkd_sdk.exporters.verification import enforce, measure_drift, violations
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx.instruction_sets import instruction_sets
from flipkd_sdk.training.evaluation import pair_cosines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.exporters.quantization.activations import InputStatistics
    from flipkd_sdk.exporters.quantization.sample_batches import Batch
    from flipkd_sdk.exporters.verification import Limits
    from flipkd_sdk.pairs import Pairs

logger = logging.getLogger("flipkd_sdk.exporters")

_UNMEASURED = Drift(1.0, 0.0, 0.0, 0.0, 0.0)
"""Stands in the working directory's manifest while the variant is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Workbench:
    """What every variant is made and measured with."""

    working: Path
    """The working directory, with the tokenizer and the variants that are there already."""
    dev: Pairs
    """Labelled pairs to measure on."""
    limits: Mapping[str, Limits]
    """What a variant must keep, by precision."""


def add_fp32(manifest: Manifest, graph: ir.Model, bench: Workbench, torch_cosines: NDArray[np.float32]) -> Manifest:
    """Write the float32 variant and hold it to the student in torch.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: it is outside its limits.
    """
    return _add(manifest, "fp32", [graph], bench, torch_cosines)


def fp32_cosines(manifest: Manifest, bench: Workbench) -> NDArray[np.float32]:
    """The development pairs' cosines that all other variants are held to, shape (n,)."""
    write_manifest(bench.working, manifest)
    with Matcher.load(bench.working, precision="fp32", device="cpu", on_truncate="ignore") as matcher:
        return pair_cosines(matcher.encode, bench.dev)


def add_fp16(
    manifest: Manifest, graph: ir.Model, batches: Sequence[Batch], bench: Workbench, reference: NDArray[np.float32]
) -> Manifest:
    """Write the float16 variant and hold it, on the CPU, to the float32 variant.

    Args:
        manifest: with the variants that are there already.
        graph: the float32 graph.
        batches: sample inputs that the range of each value is taken from.
        bench: what it is measured with.
        reference: cosines of the float32 variant.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: it is outside its limits.
    """
    return _add(manifest, "fp16", [convert_to_half(graph, batches, bench.working)], bench, reference)


def add_int4(
    manifest: Manifest,
    smoothed: ir.Model,
    statistics: Mapping[str, InputStatistics],
    bench: Workbench,
    reference: NDArray[np.float32],
) -> Manifest:
    """Write the int4 variant and hold it to the float32 variant.

    Args:
        manifest: with the variants that are there already.
        smoothed: the float32 graph after SmoothQuant.
        statistics: of its linear layers' inputs, by value name.
        bench: what it is measured with.
        reference: cosines of the float32 variant.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: it is outside its limits.
    """
    return _add(manifest, "int4", [quantize_blockwise(smoothed, statistics)], bench, reference)


def add_int8(
    manifest: Manifest,
    smoothed: ir.Model,
    statistics: Mapping[str, InputStatistics],
    batches: Sequence[Batch],
    bench: Workbench,
    reference: NDArray[np.float32],
) -> Manifest:
    """Write the int8 variant and hold it to the float32 variant.

    No more is spent on precision than the limits ask for: first only inputs with outlying tokens are scaled token by
    token, then all inputs, and then one, two, four … up to half of the layers compute in float32, the most sensitive
    ones.

    Args:
        manifest: with the variants that are there already.
        smoothed: the float32 graph after SmoothQuant.
        statistics: of its linear layers' inputs, by value name.
        batches: sample inputs, to find the sensitive layers with.
        bench: what it is measured with.
        reference: cosines of the float32 variant.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: it is outside its limits even so.
    """
    logger.info("int8: rounding the weights")
    weights = round_weights(smoothed, statistics)
    float_layers = smoothed.clone()
    quantize_embedding(float_layers)
    models = (
        quantize_linear_layers(float_layers, weights, statistics, scale_tokens=scale_tokens, keep=kept)
        for scale_tokens, kept in _attempts(smoothed, statistics, batches, bench.working)
    )
    return _add(manifest, "int8", models, bench, reference)


def _attempts(
    smoothed: ir.Model, statistics: Mapping[str, InputStatistics], batches: Sequence[Batch], working: Path
) -> Iterator[tuple[bool, list[str]]]:
    """Whether to scale all tokens, and which layers to keep; the layers are ranked only once that was not enough."""
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
    bench: Workbench,
    reference: NDArray[np.float32],
) -> Manifest:
    """Write and measure one model after the other, up to the first that keeps the limits.

    Raises:
        VerificationError: none does; the message has the figures of the last one.
    """
    limits = bench.limits[precision]
    for model in models:
        ir.save(model, bench.working / _file(precision))
        variant = _measure(manifest, bench.working, precision, bench.dev, reference)
        outside = violations(variant.drift, limits)
        logger.info("%s: %s", precision, "; ".join(outside) or "within its limits")
        if not outside:
            break
    enforce(precision, variant.drift, limits)
    return _with(manifest, precision, variant)


def _measure(manifest: Manifest, working: Path, precision: str, dev: Pairs, reference: NDArray[np.float32]) -> Variant:
    """Describe the variant whose file was just written, with its drift as the public `Matcher` shows it."""
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
