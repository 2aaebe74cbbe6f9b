from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import pytest

from flipkd_sdk.artifact.limits import LIMITS
from flipkd_sdk.errors import VerificationError
from flipkd_sdk.exporters import export, variants
from flipkd_sdk.exporters.export import ExportOptions
from flipkd_sdk.exporters.verification import widen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flipkd_sdk.artifact.manifest import Drift, Variant

WIDE = {"int8.spearman": -1.0, "int8.average_precision_change": 1.0}


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Drift]:
    """The drift of each int8 variant that an export tries."""
    tried: list[Drift] = []
    measure = variants._measure

    def remember(*arguments: object) -> Variant:
        variant = measure(*arguments)
        if arguments[2] == "int8":
            tried.append(variant.drift)
        return variant

    monkeypatch.setattr(variants, "_measure", remember)
    return tried


@pytest.mark.parametrize(
    ("layers", "kept"), [(0, [0]), (1, [0]), (2, [0, 1]), (7, [0, 1, 2, 3]), (14, [0, 1, 2, 4, 7])]
)
def test_ever_more_of_the_most_sensitive_layers_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, layers: int, kept: list[int]
) -> None:
    ranking = [f"layer_{number}" for number in range(layers)]
    monkeypatch.setattr(variants, "most_sensitive", lambda *_: ranking)
    tried = list(variants._attempts(ir.Model(ir.Graph([], [], nodes=[]), ir_version=10), {}, [], tmp_path))
    assert tried == [(False, []), *((True, ranking[:count]) for count in kept)]


@pytest.mark.usefixtures("same_graph")
def test_layers_are_ranked_only_if_quantizing_all_of_them_is_not_enough(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempts: list[Drift]
) -> None:
    def rank(*_: object) -> list[str]:
        raise AssertionError

    monkeypatch.setattr(variants, "most_sensitive", rank)
    export.export(
        tiny_run, tmp_path / "out", ExportOptions(limits=widen(LIMITS, {**WIDE, "int8.max_cosine_change": 1}))
    )
    assert len(attempts) == 1


@pytest.mark.usefixtures("same_graph")
def test_as_few_layers_stay_float32_as_the_limits_ask_for(
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attempts: list[Drift],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="flipkd_sdk.exporters")
    kept: list[Sequence[str]] = []
    quantize = variants.quantize_linear_layers

    def remember(*arguments: object, scale_tokens: bool, keep: Sequence[str]) -> ir.Model:
        kept.append(keep)
        return quantize(*arguments, scale_tokens=scale_tokens, keep=keep)

    monkeypatch.setattr(variants, "quantize_linear_layers", remember)
    limits = widen(LIMITS, {**WIDE, "int8.max_cosine_change": 0.0})
    with pytest.raises(VerificationError, match=r"max_cosine_change 0\.\d+ > 0; to accept: --limit int8\.max_cosine"):
        export.export(tiny_run, tmp_path / "out", ExportOptions(limits=limits))
    assert [len(names) for names in kept] == [0, 0, 1, 2, 3], "half of seven"
    told = [message for message in caplog.messages if message.startswith("int8: max_cosine_change")]
    assert len(told) == len(kept), "how far off each attempt was"
    changes = [drift.max_cosine_change for drift in attempts]
    assert changes[-1] < changes[0]
    first = next(number for number, change in enumerate(changes) if change < changes[0])
    attempts.clear()
    limits = widen(LIMITS, {**WIDE, "int8.max_cosine_change": changes[first]})
    manifest = export.export(tiny_run, tmp_path / "out", ExportOptions(limits=limits))
    assert len(attempts) == first + 1
    assert manifest.variants["int8"].drift.max_cosine_change == pytest.approx(changes[first], rel=1e-3)
    model = ir.load(tmp_path / "out" / "model_int8.onnx")
    makers = {node.name: node.inputs[1].producer() for node in model.graph if node.op_type == "MatMul"}
    float_layers = [name for name, maker in makers.items() if maker is not None and maker.op_type == "Cast"]
    assert sorted(float_layers) == sorted(kept[first])
