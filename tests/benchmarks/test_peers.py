from __future__ import annotations

import csv
import importlib.metadata
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click
import numpy as np
import pytest
from environment import data_folder
from onnx import TensorProto, helper, numpy_helper, save
from peers.catalog import REFERENCE, catalog
from peers.graphs import linear_layers
from peers.report import machine_limit, results, table
from peers.scheduler import Measured, SystemFailedError, Worker, cold_starts, measure
from peers.sizes import closure, installed_bytes
from peers.systems import SystemSpec
from peers.worker import prepare_system
from peers.workloads import FILES, Workloads, load_workloads
from tiny import TEXTS

from flipkd_sdk import Matcher
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.pairs import Pairs

if TYPE_CHECKING:
    from pathlib import Path

REAL = [text for text in TEXTS if text.strip()]
PAIRS = Pairs((*REAL[:4], *REAL[:4]), (*REAL[1:5], *REAL[4:8]), np.array([1, 0, 1, 0, 0, 1, 0, 1], dtype=np.int8))


@pytest.fixture
def work() -> Workloads:
    return Workloads(
        dev=PAIRS,
        test=PAIRS,
        texts=REAL,
        single=[(a, b) for a, b in zip(PAIRS.a, PAIRS.b, strict=True)],
        candidates=REAL,
        queries=REAL[::-1],
        best=[frozenset([i]) for i in reversed(range(len(REAL)))],
        sample=REAL[:4],
    )


@pytest.fixture
def matcher(tiny_matcher: Path) -> SystemSpec:
    return SystemSpec(
        "flipkd tiny int8",
        "matcher",
        str(tiny_matcher),
        "int8",
        distributions=("click",),
        artifacts=(str(tiny_matcher / "model_int8.onnx"), str(tiny_matcher / "tokenizer.json")),
        graph=str(tiny_matcher / "model_int8.onnx"),
        tokenizer=str(tiny_matcher / "tokenizer.json"),
        max_length=32,
        tuned=True,
    )


def test_a_measured_system_and_one_that_fails(matcher: SystemSpec, work: Workloads) -> None:
    missing = replace(matcher, name="absent", location="nowhere", problem=None)
    reference = replace(matcher, name=REFERENCE)
    measured = [Measured(spec) for spec in (reference, matcher, missing)]
    cold_starts(measured[:2], rounds=1)
    machine = machine_limit(measure(measured, work, 2, [(8, 8, 8)]))

    found = results(measured, work, machine["gmac_per_second"], {matcher.name: 6})

    _, row, failed = found["systems"]
    with Matcher.load(matcher.location, device="cpu", precision="int8", on_truncate="ignore") as opened:
        scores = opened.score_pairs(zip(PAIRS.a, PAIRS.b, strict=True))
    assert row["average_precision"] == pytest.approx(average_precision(scores, PAIRS.label))
    assert row["faq_top1"] == 1.0, "every query is itself a candidate, whatever the order of the rounds"
    assert row["texts_speed_ratio"] > 0
    assert row["pair_p50_ms"] <= row["pair_p99_ms"]
    assert row["tokens_per_text"] > 1
    assert row["share_of_limit"] > 0
    assert row["resident_mb"] > 10
    assert {target["figure"] for target in found["targets"]} == {
        "texts_speed_ratio",
        "pair_p50_ratio",
        "share_of_limit",
    }
    assert "nowhere" in failed["failed"]
    assert "not measured: " in table(found["systems"]).splitlines()[-1]


def test_a_process_that_dies_is_reported() -> None:
    with pytest.raises(SystemFailedError, match="its process ended"):
        Worker(os._exit, 3).wait()


def test_a_failing_peer_says_why(matcher: SystemSpec) -> None:
    worker = Worker(prepare_system, replace(matcher, variant="int2"), [])
    with pytest.raises(SystemFailedError, match="no 'int2' variant"):
        worker.wait()
    worker.close()


def test_a_teacher_that_cannot_be_prepared_keeps_its_rows(tmp_path: Path, tiny_matcher: Path) -> None:
    systems = catalog(tmp_path / "no-teacher", None, [tiny_matcher], tmp_path / "work")

    problems = {spec.name: spec.problem for spec in systems.specs}
    assert "no weights" in str(problems[REFERENCE])
    assert "no weights" in str(problems["model2vec"])
    assert problems[f"flipkd {tiny_matcher.name} int8"] is None
    assert systems.layers == {f"flipkd {tiny_matcher.name} {precision}": 0 for precision in ("fp32", "int8")}


def test_linear_layers_count_where_they_are_computed(tmp_path: Path) -> None:
    weight, small = np.zeros((6, 4), np.float32), np.zeros((6, 4), np.int8)
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("MatMul", ["x", "w"], ["plain"]),
            node("Cast", ["w16"], ["wc"], to=TensorProto.FLOAT),
            node("MatMul", ["x", "wc"], ["stored as halves"]),
            node("QuantizeLinear", ["x", "scale", "zero_u"], ["xq"]),
            node("DequantizeLinear", ["xq", "scale", "zero_u"], ["xd"]),
            node("DequantizeLinear", ["w8", "scale", "zero"], ["wd"]),
            node("MatMul", ["xd", "wd"], ["quantized"]),
            node("MatMul", ["x", "wd"], ["weights only"]),
            node("MatMulInteger", ["xq", "w8"], ["integer"]),
            node("MatMulNBits", ["x"], ["four bits"], domain="com.microsoft", K=6, N=10, accuracy_level=4),
            node("MatMul", ["x", "x"], ["attention"]),
            node("Gemm", ["pooled", "w"], ["z"]),
        ],
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "t", 6])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["b", 4])],
        [
            numpy_helper.from_array(value, name)
            for name, value in {
                "w": weight,
                "w8": small,
                "w16": weight.astype(np.float16),
                "scale": np.array(1, np.float32),
                "zero": np.array(0, np.int8),
                "zero_u": np.array(0, np.uint8),
            }.items()
        ],
    )
    save(helper.make_model(graph), tmp_path / "model.onnx")

    layers = linear_layers(tmp_path / "model.onnx")

    assert layers.per_token == {"fp32": 24 + 24 + 24, "int8": 24 + 24 + 60}
    assert layers.per_text == {"fp32": 24, "int8": 0}
    assert layers.shapes == ((6, 4), (6, 10))
    assert layers.total(10, 2) == {"fp32": 720 + 48, "int8": 1080}


def test_installed_size_follows_requirements_and_extras() -> None:
    names = {distribution.name for distribution in closure(["flipkd-sdk[cpu]"])}
    assert {"onnxruntime", "numpy", "tokenizers"} <= names
    assert "torch" not in names
    assert installed_bytes(["tqdm", "click"]) > installed_bytes(["click"]) > 0
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        installed_bytes(["no-such-distribution"])


def test_workloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIPKD_DATA", str(tmp_path))
    with pytest.raises(click.ClickException, match=f"{FILES[0]}: missing"):
        data_folder(FILES)
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        pairs = [(f"{name} {i}", f"{name} {i} again", i % 2) for i in range(60)]
        bank = [(f"{name} {i}", f"intent {i % 7}") for i in range(60)]
        header, rows = (("text", "intent"), bank) if "banking" in name else (("text_a", "text_b", "label"), pairs)
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([header, *rows])

    found = load_workloads(tmp_path, 0.5)

    assert data_folder(FILES) == tmp_path
    assert len(set(found.texts)) == len(found.texts)
    assert {*found.dev.texts, *found.test.texts} <= set(found.texts)
    assert len(found.candidates) == 7 * 3
    assert all(len(best) == 3 for best in found.best)
    assert len(found.queries) == len(found.best) == 30
    assert load_workloads(tmp_path, 0.5).texts == found.texts
