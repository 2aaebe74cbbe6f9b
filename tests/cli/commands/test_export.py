from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from old_run import copy_old_run

from flipkd_sdk.artifact.limits import LIMITS
from flipkd_sdk.artifact.manifest import Manifest, TrimmedVocabulary, read_manifest
from flipkd_sdk.cli.main import cli
from flipkd_sdk.errors import VerificationError
from flipkd_sdk.exporters import export as exporting
from flipkd_sdk.exporters.encoders.sources import EncoderChoice
from flipkd_sdk.exporters.export import ExportOptions
from flipkd_sdk.exporters.vocabulary.trimming import VOCABULARY_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def asked(tiny_matcher: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks the exporter for, instead of exporting."""
    calls: dict[str, Any] = {}

    def record(source: Path | EncoderChoice, out: Path, options: ExportOptions, **others: object) -> Manifest:
        calls.update(source=source, out=out, options=options, **others)
        return read_manifest(tiny_matcher)

    monkeypatch.setattr(exporting, "export", record)
    monkeypatch.setattr(exporting, "export_encoder", record)
    return calls


def flipkd(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["export", *arguments])


def test_a_run_of_release_0_1_0_is_exported_with_the_measures_of_its_result(tmp_path: Path) -> None:
    run = copy_old_run(tmp_path / "old")
    done = flipkd(str(run), "--out", str(tmp_path / "matcher"), "--variants", "fp32")
    assert done.exit_code == 0, done.stderr
    expected = json.loads((run / "result.json").read_text())["measures"]["student"]["test"]
    assert read_manifest(tmp_path / "matcher").metrics["test/fp32"] == pytest.approx(expected, abs=1e-5)


def test_the_defaults_are_those_of_the_exporter(asked: dict[str, Any]) -> None:
    done = flipkd("runs/faq", "--out", "faq-matcher")
    assert done.exit_code == 0, done.stderr
    assert asked == {
        "source": Path("runs/faq"),
        "out": Path("faq-matcher"),
        "options": ExportOptions(),
        "overwrite": False,
        "system": "student",
    }


def test_the_teacher_of_a_run_is_exported_on_request(asked: dict[str, Any]) -> None:
    assert flipkd("runs/faq", "--system", "teacher", "--out", "m").exit_code == 0
    assert asked["system"] == "teacher"


def test_portable_graphs_are_asked_for(asked: dict[str, Any]) -> None:
    assert flipkd("runs/faq", "--portable", "--out", "m").exit_code == 0
    assert asked["options"].portable is True


def test_pairs_make_the_source_an_encoder(asked: dict[str, Any]) -> None:
    assert flipkd("package:minilm", "--pairs", "dev.csv", "--out", "m").exit_code == 0
    assert asked["source"] == EncoderChoice("package:minilm", Path("dev.csv"))
    given = ("--texts", "t.csv", "--text-column", "q", "--prompt", "", "--max-length", "9", "--objective", "accuracy")
    assert flipkd("some/model", "--pairs", "dev.csv", "--out", "m", *given).exit_code == 0
    assert asked["source"] == EncoderChoice("some/model", Path("dev.csv"), Path("t.csv"), "q", 9, "", "accuracy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["package:minilm"], "name labelled pairs of its use with --pairs"),
        (["encoder"], "name labelled pairs of its use with --pairs"),
        (["run", "--texts", "t.csv"], "--texts is for an encoder"),
        (["run", "--max-length", "9"], "--max-length is for an encoder"),
        (["run", "--pairs", "dev.csv"], "a run has development pairs of its own"),
        (["encoder", "--pairs", "dev.csv", "--system", "teacher"], "a run has development pairs of its own"),
    ],
)
def test_options_of_runs_and_of_encoders_are_not_mixed(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "modules.json").write_text("[]")
    (tmp_path / "run" / "splits").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    done = flipkd(*arguments, "--out", "m")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not asked


def test_every_option_reaches_the_exporter(asked: dict[str, Any]) -> None:
    flipkd(
        *("run", "--out", "m", "--overwrite", "--variants", " fp32, int8,", "--alpha", "0.5"),
        *("--sample-texts", "9"),
        *("--limit", "int8.max_cosine_change=0.05", "--limit", "fp32.spearman=0.5"),
    )
    options = asked["options"]
    assert asked["overwrite"] is True
    assert (options.variants, options.alpha) == (("fp32", "int8"), 0.5)
    assert options.sample_texts == 9
    assert options.limits["int8"].max_cosine_change == 0.05
    assert options.limits["fp32"].spearman == 0.5
    assert options.limits["int8"].spearman == LIMITS["int8"].spearman


@pytest.mark.parametrize(("arguments", "size"), [([], None), (["--trim-vocab"], VOCABULARY_SIZE)])
def test_trimming_is_asked_for(asked: dict[str, Any], arguments: list[str], size: int | None) -> None:
    assert flipkd("run", "--out", "m", *arguments).exit_code == 0
    assert asked["options"].vocabulary_size == size
    assert f"[default: {VOCABULARY_SIZE}]" in flipkd("--help").stdout
    flipkd("run", "--out", "m", "--trim-vocab", "--vocab-size", "0")
    assert asked["options"].vocabulary_size == 0


def test_it_says_what_is_left_of_the_vocabulary(tiny_matcher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed = TrimmedVocabulary(16_384, 49_152, 576, 0.9818, 1.022, 0.99301, 0.22487, -0.00206)
    manifest = replace(read_manifest(tiny_matcher), trimmed_vocabulary=trimmed)
    monkeypatch.setattr(exporting, "export", lambda *_, **__: manifest)
    assert flipkd("run", "--out", "m", "--trim-vocab").stdout.splitlines()[0] == (
        "vocabulary: 16,384 of 49,152 tokens, 37.7 of 113.2 MB in float32; 98.2% of the development texts' tokens are "
        "unchanged, and their number grows by 2.2%; Spearman with the full vocabulary 0.9930, cosines changed by up to "
        "0.2249, average precision by -0.0021"
    )


def test_it_says_what_was_written_and_measured(asked: dict[str, Any], tiny_matcher: Path) -> None:
    lines = flipkd("run", "--out", "m").stdout.splitlines()
    megabytes = (tiny_matcher / "model_int8.onnx").stat().st_size / 1e6
    assert (
        f"model_int8.onnx: {megabytes:.1f} MB, Spearman with its reference 1.0000, cosines changed by up to 0.0000"
        in lines[1]
    )
    assert lines[-1] == "Matcher: m"
    assert asked["out"] == Path("m")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing option '--out'"),
        (["--out", "m", "--alpha", "2"], 2, "2.0 is not in the range 0<=x<=1"),
        (["--out", "m", "--sample-texts", "0"], 2, "0 is not in the range x>=1"),
        (["--out", "m", "--limit", "int8.spearman"], 2, "'int8.spearman'; write NAME=NUMBER"),
        (["--out", "m", "--limit", "int8.spearman=much"], 2, "write NAME=NUMBER, as in int8.max_cosine_change=0.05"),
        (["--out", "m", "--limit", "int8.f1=1"], 1, "unknown limit 'int8.f1'; there are: fp32.spearman, "),
        (["--out", "m", "--limit", "int8.spearman=nan"], 1, "limit int8.spearman: nan is not a number"),
        (["--out", "m", "--variants", "int3"], 1, "unknown variant 'int3'; there are: fp32, fp16, int8, int4"),
        (["--out", "m", "--vocab-size", "9"], 2, "--vocab-size sets the size for --trim-vocab; pass --trim-vocab too"),
        (["--out", "m", "--trim-vocab", "--vocab-size", "-1"], 2, "-1 is not in the range x>=0"),
        (["--out", "m", "--variants", ","], 1, "no variant to export; choose from: fp32, fp16, int8, int4"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any], arguments: list[str], code: int, message: str) -> None:
    done = flipkd("run", *arguments)
    assert done.exit_code == code
    assert message in done.stderr
    assert not done.stdout
    assert not asked
    if code == 1:
        assert done.stderr.startswith("flipkd: error: ")
        assert done.stderr.count("\n") == 1


def raising(error: Exception) -> Callable[..., Manifest]:
    def fail(*_: object, **__: object) -> Manifest:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (VerificationError("the int8 variant is outside its limits: …"), "the int8 variant is outside its limits: …"),
        (
            OSError(28, "cannot be written: No space left on device", "m"),
            "m: cannot be written: No space left on device",
        ),
        (
            ModuleNotFoundError("No module named 'onnx'", name="onnx"),
            "export needs the Python package 'onnx'; run: pip install 'flipkd-sdk[export]'",
        ),
    ],
)
def test_an_export_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    monkeypatch.setattr(exporting, "export", raising(error))
    done = flipkd("run", "--out", "m")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"flipkd: error: {message}\n")


def test_a_missing_run_is_one_line(tmp_path: Path) -> None:
    done = flipkd(str(tmp_path / "absent"), "--out", str(tmp_path / "m"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"flipkd: error: {tmp_path / 'absent'}: no such directory; ")
    assert not list(tmp_path.iterdir())


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from flipkd_sdk.cli.main import cli\n"
        "cli.main(['export', '--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'onnxruntime', 'onnx', 'torch', 'transformers', 'optimum'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "flipkd export runs/faq --out faq-matcher" in done.stdout
