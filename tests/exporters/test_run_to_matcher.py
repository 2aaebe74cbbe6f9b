from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import string
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import write_tiny_llama, write_tiny_run
from tokenizers import Tokenizer

from flipkd_sdk.artifact.limits import LIMITS
from flipkd_sdk.artifact.manifest import checked_file, read_manifest
from flipkd_sdk.errors import (
    ConfigError,
    FlipKDError,
    ModelSourceError,
    OutputExistsError,
    TrainingError,
    VerificationError,
)
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.exporters import export
from flipkd_sdk.exporters.encoders import sources
from flipkd_sdk.exporters.export import ExportOptions
from flipkd_sdk.exporters.graph.nodes import linear_nodes
from flipkd_sdk.exporters.verification import widen
from flipkd_sdk.pairs import Pairs
from flipkd_sdk.runtimes import verification
from flipkd_sdk.runtimes.load import LoadOptions
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.reference_vectors import load_self_test, made_up_sample
from flipkd_sdk.training import run_directory
from flipkd_sdk.training.evaluate_models import encode_with
from flipkd_sdk.training.models.student import load_student, load_tokenizer
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module", params=["int8", "int4"])
def matcher(every_variant: Path, request: pytest.FixtureRequest) -> Iterator[Matcher]:
    with Matcher.load(every_variant, precision=request.param, device="cpu") as opened:
        yield opened


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_graph_holds_standard_operators_alone(exported_matcher: Path, precision: str) -> None:
    model = ir.load(exported_matcher / f"model_{precision}.onnx")
    assert {node.domain for node in ir.traversal.RecursiveGraphIterator(model.graph)} == {""}
    assert not model.functions


def test_the_directory_holds_what_the_manifest_names(exported_matcher: Path, tiny_run: Path) -> None:
    assert names(exported_matcher) == [
        "README.md",
        "familiarity.npz",
        "manifest.json",
        "model_fp32.onnx",
        "model_int8.onnx",
        "profile.npz",
        "self_test.json",
        "tokenizer.json",
    ]
    manifest, run = read_manifest(exported_matcher), read_run(tiny_run)
    for entry in manifest.files:
        checked_file(exported_matcher, entry)
    assert list(manifest.variants) == ["int8", "fp32"]
    assert manifest.student == run.result.student
    assert manifest.teacher == run.result.teacher
    assert replace(manifest.calibration, search=None) == run.result.calibration
    assert (manifest.encoder.layer, manifest.encoder.module, manifest.encoder.dimension) == (1, "q_proj", 16)
    assert (manifest.encoder.attention, manifest.encoder.pooling) == ("bidirectional", "mean")
    assert manifest.tokenizer.max_length == 48
    assert manifest.tokenizer.special_tokens == ()
    assert manifest.variants["fp32"].providers == ("CPUExecutionProvider",)
    assert manifest.variants["fp32"].drift.max_cosine_change <= 1e-5
    assert 1e-5 < manifest.variants["int8"].drift.max_cosine_change < 0.5
    assert manifest.variants["int8"].bytes < manifest.variants["fp32"].bytes


def test_the_self_test_holds_what_each_variant_gives_for_random_tokens(exported_matcher: Path) -> None:
    manifest = read_manifest(exported_matcher)
    assert manifest.format_version == 3
    stored = load_self_test(exported_matcher, manifest)
    assert stored is not None
    assert stored.token_ids == made_up_sample(exported_matcher, manifest)
    assert list(stored.vectors) == ["int8", "fp32"]
    found = verification.verify(exported_matcher, LoadOptions(device="cpu"))
    distances = [check for check in found.checks if check.what == "self-test distance"]
    assert [check.passed for check in distances] == [True, True]
    assert np.linalg.norm(stored.vectors["int8"] - stored.vectors["fp32"], axis=1).max() > 1e-3
    assert (exported_matcher / "self_test.json").stat().st_size < 4000


def test_it_measures_both_held_out_splits_for_each_variant(exported_matcher: Path, tiny_run: Path) -> None:
    manifest, run = read_manifest(exported_matcher), read_run(tiny_run)
    assert list(manifest.metrics) == ["dev/int8", "test/int8", "dev/fp32", "test/fp32"]
    for split in ("dev", "test"):
        assert manifest.metrics[f"{split}/fp32"] == pytest.approx(run.result.measures["student"][split], abs=1e-5)
    card = (exported_matcher / "README.md").read_text(encoding="utf-8")
    for name, values in manifest.metrics.items():
        assert f"| {name} | {values['average_precision']:.4f} | {values['f1']:.4f} |" in card
    assert f"| {manifest.variants['int8'].drift.spearman:.4f} |" in card


def test_the_matcher_scores_as_the_student_does(exported_matcher: Path, tiny_run: Path) -> None:
    run = read_run(tiny_run)
    student = load_student(run.config.student.source, run.adapter, run.config.student)
    tokenizer = load_tokenizer(run.config.student.source)
    pairs = run.split("test")
    assert pairs is not None
    long = "a text that is longer than the student reads " * 9
    pairs = Pairs((*pairs.a, "", "", long), (*pairs.b, "", "top up", "top up"), np.ones(len(pairs) + 3, np.int8))
    expected = encoder_cosines(lambda texts: encode_with(student, tokenizer, texts), pairs)
    with Matcher.load(exported_matcher, precision="fp32", device="cpu", on_truncate="ignore") as matcher:
        assert np.abs(encoder_cosines(matcher.encode, pairs) - expected).max() <= 1e-5


def test_a_student_of_a_smaller_llm_is_exported_with_that_llm(tmp_path: Path, wide: ExportOptions) -> None:
    run = read_run(write_tiny_run(tmp_path / "run", student={"mlp_width": 20}))
    manifest = export.export(run.directory, tmp_path / "matcher", replace(wide, variants=("fp32",)))
    assert manifest.metrics["test/fp32"] == pytest.approx(run.result.measures["student"]["test"], abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(string.ascii_letters + " é如?", max_size=80), min_size=1, max_size=24))
def test_no_quantized_vector_depends_on_its_batch(matcher: Matcher, texts: list[str]) -> None:
    together = matcher.encode(texts)
    assert np.abs(together - [matcher.encode([text])[0] for text in texts]).max() <= 1e-6
    assert np.abs(together - matcher.encode(texts[::-1])[::-1]).max() <= 1e-6
    pairs = list(zip(texts, texts[::-1], strict=True))
    alone = np.array([matcher.score(a, b) for a, b in pairs])
    assert np.abs(matcher.score_pairs(pairs, batch_size=3) - alone).max() <= 1e-5


def test_every_variant_is_exported_verified_and_loaded(every_variant: Path, tiny_run: Path) -> None:
    manifest = read_manifest(every_variant)
    assert list(manifest.variants) == ["fp32", "fp16", "int8", "int4"]
    size = {name: variant.bytes for name, variant in manifest.variants.items()}
    assert size["int4"] < size["int8"] < size["fp16"] < size["fp32"]
    assert 0 < manifest.variants["fp16"].drift.max_cosine_change < 0.005
    assert 0 < manifest.variants["int8"].drift.max_cosine_change < manifest.variants["int4"].drift.max_cosine_change
    assert {variant.providers for variant in manifest.variants.values()} == {("CPUExecutionProvider",)}
    dev = read_run(tiny_run).split("dev")
    assert dev is not None
    cosines = {}
    for name, variant in manifest.variants.items():
        with Matcher.load(every_variant, precision=name, device="cpu") as matcher:
            cosines[name] = encoder_cosines(matcher.encode, dev)
        if name != "fp32":
            moved = np.abs(cosines[name] - cosines["fp32"]).max()
            assert moved == pytest.approx(variant.drift.max_cosine_change, abs=1e-6)
    assert not verification.verify(every_variant, LoadOptions(device="cpu")).failures
    with Matcher.load(every_variant, device="cpu") as matcher:
        assert matcher.precision == "int8"


def test_blank_texts_score_zero_unless_asked_for(matcher: Matcher, every_variant: Path) -> None:
    assert matcher.score("", "") == 0.0
    assert matcher.score("", "reset my card") == 0.0
    with Matcher.load(every_variant, precision=matcher.precision, on_blank="score") as scoring:
        certain = float(scoring.manifest.calibration.probability(np.ones(1))[0])
        assert scoring.score("", "") == pytest.approx(certain)
        assert 0.0 <= scoring.score("", "reset my card") < certain


def test_the_tokenizer_neither_cuts_nor_pads(exported_matcher: Path, run_copy: Path) -> None:
    content = json.loads((exported_matcher / "tokenizer.json").read_text(encoding="utf-8"))
    assert content["truncation"] is None
    assert content["padding"] is None
    assert len(Tokenizer.from_file(str(exported_matcher / "tokenizer.json")).encode("word " * 500).ids) > 500
    tokenizer = load_tokenizer(read_run(run_copy).config.student.source)
    tokenizer(["one", "two and three"], truncation=True, max_length=2, padding=True)
    assert tokenizer.backend_tokenizer.truncation is not None, "else the export would have nothing to undo"


def test_the_graphs_refer_to_no_other_file(every_variant: Path) -> None:
    for precision in export.PRECISIONS:
        model = ir.load(every_variant / f"model_{precision}.onnx")
        assert not [v for v in model.graph.initializers.values() if isinstance(v.const_value, ir.ExternalTensor)]


@pytest.mark.usefixtures("same_graph")
@pytest.mark.parametrize("kept", ["int8", "fp32", "int4", "fp16"])
def test_only_the_variants_asked_for_are_kept(tiny_run: Path, tmp_path: Path, wide: ExportOptions, kept: str) -> None:
    manifest = export.export(tiny_run, tmp_path / "m", ExportOptions(variants=(kept,), limits=wide.limits))
    assert names(tmp_path / "m") == [
        "README.md",
        "familiarity.npz",
        "manifest.json",
        f"model_{kept}.onnx",
        "profile.npz",
        "self_test.json",
        "tokenizer.json",
    ]
    assert read_manifest(tmp_path / "m") == manifest
    assert list(manifest.variants) == [kept]
    assert list(manifest.metrics) == [f"dev/{kept}", f"test/{kept}"]


@pytest.mark.usefixtures("same_graph")
def test_overwrite_replaces_a_matcher_whole(tiny_run: Path, exported_matcher: Path, tmp_path: Path) -> None:
    out = shutil.copytree(exported_matcher, tmp_path / "here" / "m")
    options = ExportOptions(variants=("fp32",))
    with pytest.raises(OutputExistsError, match="exists already"):
        export.export(tiny_run, out, options)
    export.export(tiny_run, out, options, overwrite=True)
    assert "model_int8.onnx" not in names(out)
    assert names(out.parent) == ["m"]
    Matcher.load(out).close()


STEPS = (
    "read_run",
    "trained_student",
    "describe",
    "encoder_cosines",
    "extract",
    "trim_vocabulary",
    "export_graph",
    "add_fp32",
    "sample_batches",
    "fp32_cosines",
    "add_fp16",
    "channel_maxima",
    "smooth",
    "input_statistics",
    "add_int8",
    "add_int4",
    "write_manifest",
    "_measures",
)


@pytest.mark.usefixtures("same_graph")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_at_any_step_leaves_everything_as_it_was(
    tiny_run: Path,
    exported_matcher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wide: ExportOptions,
    step: str,
    overwrite: bool,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(step)

    out = tmp_path / "new" / "matcher"
    if overwrite:
        shutil.copytree(exported_matcher, out)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(export if hasattr(export, step) else sources, step, fail)
    if step == "trim_vocabulary":
        wide = replace(wide, vocabulary_size=0)
    if step in ("add_fp16", "add_int4"):
        wide = replace(wide, variants=(step.removeprefix("add_"),))
    if step in ("write_manifest", "_measures"):  # the last ones, whose predecessors were let through before
        monkeypatch.setattr(export, "add_int8", lambda manifest, *_: manifest)
        wide = ExportOptions(variants=("fp32",), limits=wide.limits)
    with pytest.raises(ZeroDivisionError, match=step):
        export.export(tiny_run, out, wide, overwrite=overwrite)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert names(tmp_path) == (["new"] if overwrite else [])


@pytest.mark.usefixtures("same_graph")
@pytest.mark.parametrize("room", [2_000, 60_000])
def test_a_full_disk_is_one_clear_error(tiny_run: Path, tmp_path: Path, wide: ExportOptions, room: int) -> None:
    out = tmp_path / "matcher"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match="cannot be written: File too large") as caught:
            export.export(tiny_run, out, wide)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.filename, caught.value.errno) == (str(out), errno.EFBIG)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable to root")
def test_an_unwritable_place_is_one_clear_error(tiny_run: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written: Permission denied") as caught:
        export.export(tiny_run, tmp_path / "matcher")
    assert caught.value.filename == str(tmp_path / "matcher")


def refusal(error: type[FlipKDError], run: Path, tmp_path: Path, options: ExportOptions | None = None) -> str:
    with pytest.raises(error) as caught:
        export.export(run, tmp_path / "out" / "matcher", options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_an_unfinished_run_is_refused(run_copy: Path, tmp_path: Path) -> None:
    (run_copy / "result.json").unlink()
    assert "the training run did not finish" in refusal(TrainingError, run_copy, tmp_path)


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    assert refusal(TrainingError, tmp_path / "absent", tmp_path).startswith(f"{tmp_path / 'absent'}: no such directory")


def test_a_run_without_development_pairs_is_refused(run_copy: Path, tmp_path: Path) -> None:
    (run_copy / "splits" / "dev.csv").unlink()
    assert refusal(TrainingError, run_copy, tmp_path).startswith(f"{run_copy / 'splits' / 'dev.csv'}: missing")


def change_config(run: Path, **student: object) -> None:
    content = json.loads((run / "config.json").read_text(encoding="utf-8"))
    content["student"].update(student)
    (run / "config.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_missing_base_model_is_refused(run_copy: Path, tmp_path: Path) -> None:
    change_config(run_copy, source=str(tmp_path / "gone"))
    assert str(tmp_path / "gone") in refusal(ModelSourceError, run_copy, tmp_path)


def test_a_changed_base_model_is_refused(run_copy: Path, tmp_path: Path) -> None:
    change_config(run_copy, source=str(write_tiny_llama(tmp_path / "other", seed=5)))
    message = refusal(TrainingError, run_copy, tmp_path)
    assert f"was trained on {read_run(run_copy).result.student.revision[:16]}; bring that model back" in message


@pytest.mark.parametrize("changes", [{"hidden_size": 48}, {"num_key_value_heads": 4}])
def test_an_adapter_of_another_shape_is_refused(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int]
) -> None:
    other = write_tiny_llama(tmp_path / "other", **changes)
    load = run_directory.load_student
    monkeypatch.setattr(run_directory, "load_student", lambda _, *arguments: load(str(other), *arguments))
    message = refusal(TrainingError, run_copy, tmp_path)
    assert message.startswith(f"{run_copy / 'adapter' / 'adapter_model.safetensors'}: base_model.model.model.layers.0.")
    assert "instead of torch.float32 of shape" in message


def test_an_adapter_with_a_nan_weight_is_refused(run_copy: Path, tmp_path: Path) -> None:
    file = run_copy / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "down_proj.lora_B" in name)
    weights[name][0, 0] = torch.nan
    save_file(weights, file)
    message = refusal(TrainingError, run_copy, tmp_path)
    assert message.startswith(f"{file}: {name} contains NaN or infinite values; restore the file")


@pytest.mark.usefixtures("same_graph")
def test_int8_outside_its_limits_leaves_nothing(tiny_run: Path, tmp_path: Path) -> None:
    options = ExportOptions(limits=widen(LIMITS, {"int8.max_cosine_change": 0.0}))
    assert "the int8 variant is outside its limits: " in refusal(VerificationError, tiny_run, tmp_path, options)


@pytest.mark.usefixtures("same_graph")
def test_a_graph_that_is_not_the_students_is_refused(
    first_export: tuple[Path, ir.Model], tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = first_export[1].clone()
    encoder = graph.graph.initializers["encoder_weight"]
    encoder.const_value = ir.tensor(encoder.const_value.numpy()[::-1] * np.linspace(1, 2, 32, dtype=np.float32))
    monkeypatch.setattr(export, "export_graph", lambda _: graph)
    assert "the fp32 variant is outside its limits: " in refusal(VerificationError, tiny_run, tmp_path)


@pytest.mark.usefixtures("same_graph")
def test_a_run_without_a_test_split_is_exported(run_copy: Path, tmp_path: Path) -> None:
    (run_copy / "splits" / "test.csv").unlink()
    manifest = export.export(run_copy, tmp_path / "m", ExportOptions(variants=("fp32",)))
    assert list(manifest.metrics) == ["dev/fp32"]


def test_a_site_before_every_linear_layer_is_exported(tmp_path: Path, wide: ExportOptions) -> None:
    run = write_tiny_run(tmp_path / "run", student={"layer": 0, "module": "q_proj", "rank": 4, "site_rank": 16})
    manifest = export.export(run, tmp_path / "m", wide)
    assert manifest.variants["int8"].bytes < manifest.variants["fp32"].bytes
    assert not linear_nodes(ir.load(tmp_path / "m" / "model_fp32.onnx"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": ("int8", "int3")}, "unknown variant 'int3'; there are: fp32, fp16, int8, int4"),
        ({"variants": ()}, "no variant to export; choose from: fp32, fp16, int8, int4"),
        ({"alpha": 1.5}, "alpha must be in [0, 1]; it is 1.5"),
        ({"alpha": float("nan")}, "alpha must be in [0, 1]; it is nan"),
        ({"vocabulary_size": -1}, "vocabulary_size must be at least 0; it is -1"),
        ({"sample_texts": 0}, "sample_texts must be at least 1; it is 0"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ExportOptions(**options)
    assert str(caught.value) == message
