"""The variants of a matcher, each built from the float32 graph and proved before it counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from flipkd_sdk.exporters.activations import most_sensitive
from flipkd_sdk.exporters.matcher_directory import write_manifest
from flipkd_sdk.exporters.quantization import quantize_embedding, quantize_linear_layers
from flipkd_sdk.exporters.verification import enforce, matcher_cosines, measure_drift, violations
from flipkd_sdk.manifest import Drift, Manifest, Variant, sha256_of
from flipkd_sdk.runtimes.cpu import instruction_sets
from flipkd_sdk.runtimes.matcher import Matcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.exporters.calibration_data import Batch
    from flipkd_sdk.exporters.verification import Limits
    from flipkd_sdk.pairs import Pairs

_UNMEASURED = Drift(1.0, 0.0, 0.0, 0.0, 0.0)
"""Stands in the working directory's manifest until the variant was measured."""


def add_fp32(
    manifest: Manifest, graph: ir.Model, working: Path, dev: Pairs, torch_cosines: NDArray[np.float32], limits: Limits
) -> Manifest:
    """Write the float32 variant and hold it to the student in torch.

    Raises:
        VerificationError: it is outside its limits.
    """
    ir.save(graph, working / _file("fp32"))
    measured = _measured(manifest, working, "fp32", dev, torch_cosines)
    enforce("fp32", measured.variants["fp32"].drift, limits)
    return measured


def add_int8(
    manifest: Manifest, smoothed: ir.Model, working: Path, batches: Sequence[Batch], dev: Pairs, limits: Limits
) -> Manifest:
    """Write the int8 variant and hold it to the float32 variant.

    As few of the most sensitive layers stay in float32 as the limits ask for: none, one, two, four … up to half.

    Args:
        manifest: with a measured fp32 variant in the working directory.
        smoothed: the float32 graph after SmoothQuant.
        working: the working directory.
        batches: sample inputs that the activation ranges are taken from.
        dev: labelled pairs to measure on.
        limits: what the variant must keep.

    Raises:
        VerificationError: it is outside its limits even so.
    """
    source, target = working / "smoothed.onnx", working / _file("int8")
    ir.save(smoothed, source)
    with Matcher.load(working, precision="fp32", device="cpu", on_truncate="ignore") as matcher:
        reference = matcher_cosines(matcher, dev)
    sensitive = most_sensitive(smoothed, batches, working)
    kept = 0
    while True:
        quantize_linear_layers(source, target, batches, keep=sensitive[:kept])
        model = ir.load(target)
        quantize_embedding(model)
        ir.save(model, target)
        measured = _measured(manifest, working, "int8", dev, reference)
        drift = measured.variants["int8"].drift
        if not violations(drift, limits) or kept >= len(sensitive) // 2:
            break
        kept = max(1, 2 * kept)
    source.unlink()
    enforce("int8", drift, limits)
    return measured


def _measured(
    manifest: Manifest, working: Path, precision: str, dev: Pairs, reference: NDArray[np.float32]
) -> Manifest:
    """Enter a variant into the manifest, with its drift as the public Matcher shows it."""
    file = working / _file(precision)
    variant = Variant(
        file=file.name,
        sha256=sha256_of(file),
        bytes=file.stat().st_size,
        providers=("CPUExecutionProvider",),
        instruction_sets=instruction_sets(),
        drift=_UNMEASURED,
    )
    write_manifest(working, replace(manifest, variants={**manifest.variants, precision: variant}))
    drift = measure_drift(working, precision, dev, reference)
    measured = replace(manifest, variants={**manifest.variants, precision: replace(variant, drift=drift)})
    write_manifest(working, measured)
    return measured


def _file(precision: str) -> str:
    return f"model_{precision}.onnx"
