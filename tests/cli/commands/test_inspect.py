from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from tiny import add_self_test, write_manifest

from flipkd_sdk.artifact.manifest import TrimmedVocabulary, read_manifest
from flipkd_sdk.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def matcher(tiny_matcher: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "matcher"
    shutil.copytree(tiny_matcher, copy)
    return copy


def test_the_summary_names_what_is_in_the_directory(matcher: Path) -> None:
    done = CliRunner().invoke(cli, ["inspect", str(matcher)])
    assert done.exit_code == 0, done.stderr
    manifest = read_manifest(matcher)
    expected = [
        manifest.student.source,
        manifest.teacher.licence,
        manifest.encoder.attention,
        f"{manifest.encoder.dimension} dimensions",
        f"{manifest.calibration.threshold:.4f} for {manifest.calibration.objective}",
        f"{1 + len(manifest.variants)} verified",
        *manifest.variants,
        *manifest.metrics,
    ]
    for text in expected:
        assert text in done.stdout


def test_it_tells_of_the_self_test_and_verifies_its_file(matcher: Path) -> None:
    assert "self-test  none; export again" in CliRunner().invoke(cli, ["inspect", str(matcher)]).stdout
    add_self_test(matcher)
    output = CliRunner().invoke(cli, ["inspect", str(matcher)]).stdout
    assert "self-test  run it with 'flipkd verify'" in output
    assert "4 verified" in output
    (matcher / "self_test.json").write_text("{}")
    assert f"{matcher / 'self_test.json'}: 2 bytes instead" in CliRunner().invoke(cli, ["inspect", str(matcher)]).stderr


def test_a_trimmed_vocabulary_is_in_the_summary(matcher: Path) -> None:
    assert "\nvocabulary " not in CliRunner().invoke(cli, ["inspect", str(matcher)]).stdout
    trimmed = TrimmedVocabulary(16_384, 49_152, 576, 0.9818, 1.022, 0.99301, 0.22487, -0.00206)
    write_manifest(matcher, replace(read_manifest(matcher), trimmed_vocabulary=trimmed))
    assert (
        "16,384 of 49,152 tokens, 98.2% of dev's unchanged; Spearman 0.9930, max |Δcosine| 2.2e-01, ΔAP -0.0021"
        in CliRunner().invoke(cli, ["inspect", str(matcher)]).stdout
    )


def test_json_holds_the_whole_manifest(matcher: Path) -> None:
    content = json.loads(CliRunner().invoke(cli, ["inspect", str(matcher), "--json"]).stdout)
    manifest = read_manifest(matcher)
    assert content["manifest"] == json.loads(manifest.to_json())
    files = [manifest.tokenizer.file, *(variant.file for variant in manifest.variants.values())]
    assert content["verified"] == files
    assert content["directory"] == str(matcher)


def test_a_changed_file_is_named(matcher: Path) -> None:
    file = matcher / next(iter(read_manifest(matcher).variants.values())).file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for arguments in (["inspect", str(matcher)], ["inspect", str(matcher), "--json"]):
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 1
        assert done.stderr.startswith(f"flipkd: error: {file}: its SHA-256 differs")
        assert not done.stdout


def test_a_manifest_cannot_steer_the_terminal(matcher: Path) -> None:
    path = matcher / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["student"]["source"] = "a\x1b[2Jb\nc"
    path.write_text(json.dumps(content), encoding="utf-8")
    output = CliRunner().invoke(cli, ["inspect", str(matcher)]).stdout
    assert "a\ufffd[2Jb\ufffdc" in output
    assert "\x1b" not in output


def test_it_works_without_onnxruntime_and_tokenizers(matcher: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules['onnxruntime'] = sys.modules['tokenizers'] = None\n"
        "from flipkd_sdk.cli.main import run\n"
        "run()\n"
    )
    command = [sys.executable, "-c", script, "inspect", str(matcher)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
