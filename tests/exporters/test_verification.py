from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny import replace_model
from tiny_models import tiny_pairs

from flipkd_sdk.artifact.limits import LIMITS, Limits
from flipkd_sdk.artifact.manifest import Drift, read_manifest
from flipkd_sdk.errors import ConfigError, VerificationError
from flipkd_sdk.evaluation import metrics
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.exporters.verification import enforce, measure_drift, violations, widen
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PAIRS = tiny_pairs(30)
EXACT = Drift(1.0, 0.0, 0.0, 0.0, 0.0)


def cosines(directory: Path, precision: str) -> NDArray[np.float32]:
    with Matcher.load(directory, precision=precision, device="cpu") as matcher:
        return encoder_cosines(matcher.encode, PAIRS)


def test_a_variant_does_not_drift_from_itself(tiny_matcher: Path) -> None:
    drift = measure_drift(tiny_matcher, "fp32", PAIRS, cosines(tiny_matcher, "fp32"))
    assert drift.alone_vs_batched <= 1e-6
    assert drift == Drift(1.0, 0.0, 0.0, 0.0, drift.alone_vs_batched)


def test_drift_is_measured_from_the_reference(tiny_matcher: Path) -> None:
    exact, rough = cosines(tiny_matcher, "fp32"), cosines(tiny_matcher, "int8")
    drift = measure_drift(tiny_matcher, "int8", PAIRS, exact)
    calibration = read_manifest(tiny_matcher).calibration
    f1 = [
        metrics.at_threshold(calibration.probability(values), PAIRS.label, calibration.threshold)["f1"]
        for values in (exact, rough)
    ]
    ap = [metrics.average_precision(values, PAIRS.label) for values in (exact, rough)]
    assert drift.max_cosine_change == pytest.approx(np.abs(rough - exact).max())
    assert drift.max_cosine_change > 0.001
    assert drift.spearman == pytest.approx(metrics.spearman(rough, exact)) != 1.0
    assert drift.average_precision_change == pytest.approx(ap[1] - ap[0])
    assert drift.f1_change == pytest.approx(f1[1] - f1[0])


def test_dynamic_quantization_is_caught_by_its_batches(tiny_matcher: Path, tmp_path: Path) -> None:
    load_onnxruntime()
    from onnxruntime.quantization import quantize_dynamic

    directory = shutil.copytree(tiny_matcher, tmp_path / "matcher")
    quantize_dynamic(directory / "model_fp32.onnx", tmp_path / "dynamic.onnx")
    replace_model(directory, (tmp_path / "dynamic.onnx").read_bytes(), precision="int8")
    drift = measure_drift(directory, "int8", PAIRS, cosines(directory, "fp32"))
    assert drift.alone_vs_batched > 1e-4
    with pytest.raises(VerificationError, match=r"alone_vs_batched .* > 1e-06; to accept: .*int8\.alone_vs_batched="):
        enforce("int8", drift, widen(LIMITS, {"int8.spearman": -1, "int8.max_cosine_change": 9})["int8"])


@pytest.mark.parametrize(
    ("drift", "message"),
    [
        (Drift(0.99712, 0.0, 0.0, 0.0, 0.0), "spearman 0.99712 < 0.998; to accept: --limit int8.spearman=VALUE"),
        (Drift(1.0, 0.041, 0.0, 0.0, 0.0), "max_cosine_change 0.041 > 0.03; to accept: --limit int8.max_cosine_change"),
        (Drift(1.0, 0.0, 0.0031, 0.0, 0.0), "average_precision_change 0.0031 > 0.002; "),
        (Drift(1.0, 0.0, -0.0031, 0.0, 0.0), "average_precision_change 0.0031 > 0.002; "),
        (Drift(1.0, 0.0, 0.0, 0.0, 2e-6), "alone_vs_batched 2e-06 > 1e-06; "),
        (Drift(float("nan"), 0.0, 0.0, 0.0, 0.0), "spearman nan < 0.998; "),
        (Drift(1.0, float("nan"), 0.0, 0.0, 0.0), "max_cosine_change nan > 0.03; "),
        (
            Drift(0.5, 0.5, 0.0, 0.0, 0.0),
            "spearman 0.50000 < 0.998; max_cosine_change 0.5 > 0.03; to accept: "
            "--limit int8.spearman=VALUE --limit int8.max_cosine_change=VALUE",
        ),
    ],
)
def test_a_variant_outside_its_limits_is_refused_with_the_figures(drift: Drift, message: str) -> None:
    with pytest.raises(VerificationError) as caught:
        enforce("int8", drift, LIMITS["int8"])
    assert str(caught.value).startswith(f"the int8 variant is outside its limits: {message}")


def test_limits_themselves_are_inside() -> None:
    limits = Limits(spearman=0.75, max_cosine_change=0.5, average_precision_change=0.25, alone_vs_batched=0.125)
    assert not violations(Drift(0.75, 0.5, -0.25, -1.0, 0.125), limits)
    enforce("fp32", EXACT, LIMITS["fp32"])


def test_a_wider_limit_is_accepted_and_the_others_stay() -> None:
    wider = widen(LIMITS, {"int8.max_cosine_change": 0.05})
    enforce("int8", Drift(1.0, 0.05, 0.0, 0.0, 0.0), wider["int8"])
    with pytest.raises(VerificationError, match=r"spearman 0\.99000"):
        enforce("int8", Drift(0.99, 0.05, 0.0, 0.0, 0.0), wider["int8"])
    assert wider["fp32"] == LIMITS["fp32"]
    assert LIMITS["int8"].max_cosine_change == 0.03


@pytest.mark.parametrize("name", ["int8.f1", "int3.spearman", "spearman", "", "int8."])
def test_an_unknown_limit_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^unknown limit '{name}'; there are: fp32\.spearman, .*int8\.alone_vs_batch"
    ):
        widen(LIMITS, {name: 1.0})


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"limit int8\.spearman: nan"):
        widen(LIMITS, {"int8.spearman": float("nan")})
