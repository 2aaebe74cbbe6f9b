from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.manifest import Drift, ModelReference, read_manifest
from flipkd_sdk.exporters.directory.model_card import model_card

if TYPE_CHECKING:
    from pathlib import Path


def test_the_figures_of_the_manifest_are_in_the_card(tiny_matcher: Path) -> None:
    manifest = read_manifest(tiny_matcher)
    variant = replace(manifest.variants["int8"], bytes=12_345_678, drift=Drift(0.99876, 0.01234, 0.0, 0.0, 3e-7))
    measures = {"average_precision": 0.91234, "f1": 0.84321, "accuracy": 0.75555}
    card = model_card(replace(manifest, variants={"int8": variant}, metrics={"test/int8": measures}))
    assert "| test/int8 | 0.9123 | 0.8432 | 0.7556 |" in card
    assert "| int8 | `model_int8.onnx` | 12.3 MB | 0.9988 | 0.0123 | 3e-07 |" in card
    assert f"threshold ({manifest.calibration.threshold:.3f})" in card
    assert f"{manifest.calibration.size} development pairs\n(objective `f1`)" in card
    assert "| student | tiny-student | `0` | Apache-2.0 |" in card
    assert "`q_proj` in block 0 (bidirectional attention,\nmean pooling, 16 dimensions)" in card


def test_a_whole_licence_fits_into_its_row(tiny_matcher: Path) -> None:
    student = ModelReference("a", "b", "Copyright (c) | All\n\nrights " + "reserved " * 40)
    card = model_card(replace(read_manifest(tiny_matcher), student=student))
    (row,) = [line for line in card.splitlines() if line.startswith("| student")]
    assert row.startswith(r"| student | a | `b` | Copyright (c) \| All rights reserved")
    assert len(row) < 120
