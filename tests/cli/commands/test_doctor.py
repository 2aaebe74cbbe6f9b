from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from flipkd_sdk import Matcher
from flipkd_sdk.cli import doctor_checks
from flipkd_sdk.cli.main import cli
from flipkd_sdk.errors import ExecutionError

if TYPE_CHECKING:
    from pathlib import Path


def levels(*arguments: str) -> dict[str, str]:
    done = CliRunner().invoke(cli, ["doctor", *arguments, "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == int(any(finding["level"] == "error" for finding in found))
    return {finding["what"]: finding["level"] for finding in found}


def test_a_machine_that_passes_these_tests_is_well(tiny_matcher: Path) -> None:
    found = levels(str(tiny_matcher))
    assert "error" not in found.values()
    for what in ("system", "threads", "packages", "onnxruntime", "8-bit self-test", "matcher", "batch invariance"):
        assert found[what] == "ok"


def test_text_shows_the_findings_and_then_the_advice(tiny_matcher: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["doctor", str(tmp_path / "absent")])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert any(line.split()[:3] == ["error", "matcher", "cannot"] for line in lines)
    assert lines[-1].startswith(f"matcher: {tmp_path / 'absent'}: no such directory")


def test_missing_and_doubled_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ExecutionError("onnxruntime is not installed; run: pip install flipkd-sdk[cpu]")

    monkeypatch.setattr(doctor_checks, "load_onnxruntime", missing)
    monkeypatch.setattr(doctor_checks, "_version", lambda name: "1.30.0")
    found = levels()
    assert found["onnxruntime"] == "error"
    assert found["onnxruntime wheels"] == "warning"


def test_a_package_that_is_needed_and_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "_version", lambda name: None if name == "tokenizers" else "1.30.0")
    assert levels()["tokenizers"] == "error"


def test_an_unused_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "_version", lambda name: None if name == "onnxruntime-gpu" else "1.30.0")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert levels()["NVIDIA GPU"] == "note"


def test_the_self_test_runs_the_product_that_it_says() -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("a", TensorProto.UINT8, ["m", "k"]),
            helper.make_tensor_value_info("b", TensorProto.INT8, ["k", "n"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["m", "n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="")
    model.ir_version = 8
    assert model.SerializeToString() == doctor_checks._INTEGER_PRODUCT


class Overflowing:
    """An onnxruntime whose 8-bit products are too small from some weight on."""

    def __init__(self, first_wrong: int) -> None:
        self.first_wrong = first_wrong

    def InferenceSession(self, *_arguments: object, **_options: object) -> Overflowing:  # noqa: N802
        return self

    def run(self, _names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        product = inputs["a"].astype(np.int32) @ inputs["b"].astype(np.int32)
        return [product - (inputs["b"].max() >= self.first_wrong)]


@pytest.mark.parametrize(
    ("first_wrong", "level", "words"), [(1, "error", "wrong"), (64, "ok", "8-bit weights overflow")]
)
def test_products_that_overflow_are_found(first_wrong: int, level: str, words: str) -> None:
    (finding,) = doctor_checks._integer_products(Overflowing(first_wrong))
    assert finding.level == level
    assert words in finding.found


def test_a_matcher_whose_scores_move_with_the_batch_is_found(
    tiny_matcher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_pairs = Matcher.score_pairs
    monkeypatch.setattr(Matcher, "score_pairs", lambda self, pairs: score_pairs(self, pairs) + 1e-3)
    assert levels(str(tiny_matcher))["batch invariance"] == "error"


def test_a_variant_that_was_verified_on_other_instructions_is_told(
    tiny_matcher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor_checks._verified_here(("avx2",), "fp32").level == "ok"
    monkeypatch.setattr(doctor_checks, "instruction_sets", lambda: ("avx2", "avx512f"))
    assert doctor_checks._verified_here(("avx2", "avx512_vnni"), "int8").level == "note"
    assert doctor_checks._verified_here(("avx2",), "int8").level == "ok"
