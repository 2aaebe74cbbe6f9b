"""The variants of a matcher, each built from the float32 graph and proved before it counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from flipkd_sdk.exporters.activations import input_statistics
from flipkd_sdk.exporters.matcher_directory import write_manifest
from flipkd_sdk.exporters.quantization import quantize_embedding, quantize_linear_layers
from flipkd_sdk.exporters.rounding import round_weights
from flipkd_sdk.exporters.sensitivity import most_sensitive
from flipkd_sdk.exporters.verification import enforce, measure_drift, violations
from flipkd_sdk.manifest import Drift, Manifest, Variant, sha256_of
from flipkd_sdk.runtimes.cpu import instruction_sets
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.training.evaluation import pair_cosines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.exporters.activations import InputStatistics
    from flipkd_sdk.exporters.calibration_data import Batch
    from flipkd_sdk.exporters.verification import Limits
    from flipkd_sdk.pairs import Pairs

_UNMEASURED = Drift(1.0, 0.0, 0.0, 0.0, 0.0)
"""Stands in the working directory's manifest while the variant is measured."""


def add_fp32(
    manifest: Manifest, graph: ir.Model, working: Path, dev: Pairs, torch_cosines: NDArray[np.float32], limits: Limits
) -> Manifest:
    """Write the float32 variant and hold it to the student in torch.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: it is outside its limits.
    """
    ir.save(graph, working / _file("fp32"))
    variant = _measure(manifest, working, "fp32", dev, torch_cosines)
    enforce("fp32", variant.drift, limits)
    return _with(manifest, "fp32", variant)


def add_int8(
    manifest: Manifest, smoothed: ir.Model, working: Path, batches: Sequence[Batch], dev: Pairs, limits: Limits
) -> Manifest:
    """Write the int8 variant and hold it to the float32 variant.

    No more is spent on precision than the limits ask for: first only inputs with outlying tokens are scaled token by
    token, then all inputs, and then one, two, four … up to half of the layers compute in float32, the most sensitive
    ones.

    Args:
        manifest: with the fp32 variant, whose file is in the working directory.
        smoothed: the float32 graph after SmoothQuant.
        working: the working directory.
        batches: sample inputs that the activation ranges are taken from.
        dev: labelled pairs to measure on.
        limits: what the variant must keep.

    Returns:
        The manifest with the variant.

    Raises:
        VerificationError: it is outside its limits even so.
    """
    write_manifest(working, manifest)
    with Matcher.load(working, precision="fp32", device="cpu", on_truncate="ignore") as matcher:
        reference = pair_cosines(matcher.encode, dev)
    statistics = input_statistics(smoothed, batches, working)
    weights = round_weights(smoothed, statistics)
    float_layers = smoothed.clone()
    quantize_embedding(float_layers)
    for scale_tokens, kept in _attempts(smoothed, statistics, batches, working):
        model = quantize_linear_layers(float_layers, weights, statistics, scale_tokens=scale_tokens, keep=kept)
        ir.save(model, working / _file("int8"))
        variant = _measure(manifest, working, "int8", dev, reference)
        if not violations(variant.drift, limits):
            break
    enforce("int8", variant.drift, limits)
    return _with(manifest, "int8", variant)


def _attempts(
    smoothed: ir.Model, statistics: Mapping[str, InputStatistics], batches: Sequence[Batch], working: Path
) -> Iterator[tuple[bool, list[str]]]:
    """Whether to scale all tokens, and which layers to keep; the layers are ranked only once that was not enough."""
    yield False, []
    yield True, []
    ranking = most_sensitive(smoothed, statistics, batches, working)
    half = len(ranking) // 2
    count = 1
    while count < half:
        yield True, ranking[:count]
        count *= 2
    if half:
        yield True, ranking[:half]


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
