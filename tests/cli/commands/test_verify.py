from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny import TEXTS, add_self_test, replace_model, tiny_model, tiny_tokenizer, write_manifest, write_tiny_matcher

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.limits import REFERENCE_DISTANCE
from flipkd_sdk.artifact.manifest import FORMAT_VERSION, read_manifest
from flipkd_sdk.cli.main import cli
from flipkd_sdk.evaluation.metrics import spearman, summary
from flipkd_sdk.pairs import Pairs, write_pairs
from flipkd_sdk.runtimes import verification
from flipkd_sdk.runtimes.encoding.encoder import Encoded, TextEncoder

if TYPE_CHECKING:
    from pathlib import Path

SOME = [text for text in TEXTS if text.strip()]
PAIRS = Pairs(
    tuple(a for a in SOME for _ in SOME),
    tuple(b for _ in SOME for b in SOME),
    np.array([(i // len(SOME) + i) % 3 == 0 for i in range(len(SOME) ** 2)], np.int8),
)


@pytest.fixture
def directory(tiny_matcher: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(tiny_matcher, tmp_path / "matcher")
    add_self_test(copy)
    return copy


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_pairs(PAIRS, tmp_path / "pairs.csv")
    return tmp_path / "pairs.csv"


def verify(directory: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["verify", str(directory), "--device", "cpu", *map(str, arguments)])


def found(directory: Path, *arguments: str | Path) -> dict[str, Any]:
    done = verify(directory, "--json", *arguments)
    content = json.loads(done.stdout)
    assert done.exit_code == (0 if content["passed"] else 1), done.stderr
    return content


def checks(content: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(check["variant"], check["what"]): check for check in content["checks"]}


def with_figures(directory: Path, changes: dict[str, float]) -> None:
    """Put the figures of the pairs into the manifest, as those of the test split."""
    manifest, metrics = read_manifest(directory), {}
    for precision in manifest.variants:
        with Matcher.load(directory, precision=precision, device="cpu", on_truncate="ignore") as matcher:
            score = matcher.score_pairs(zip(PAIRS.a, PAIRS.b, strict=True))
            metrics[f"test/{precision}"] = summary(score, PAIRS.label, matcher.threshold) | changes
    write_manifest(directory, replace(manifest, metrics=metrics))


def test_a_whole_matcher_passes(directory: Path) -> None:
    content = found(directory)
    assert content["passed"]
    assert content["files"] == ["tokenizer.json", "model_fp32.onnx", "model_int8.onnx", "self_test.json"]
    assert content["devices"] == {"fp32": "cpu", "int8": "cpu"}
    by_name = checks(content)
    for precision in ("fp32", "int8"):
        test = by_name[precision, "self-test distance"]
        assert test["measured"] < 5e-4
        assert test["at_most"] == REFERENCE_DISTANCE
        for way in ("batched", "in small batches", "reversed", "with other threads"):
            assert by_name[precision, f"sample: alone / {way}"]["measured"] <= 1e-6
    drift = by_name["int8", "sample: Spearman with fp32"]
    assert drift["measured"] == pytest.approx(drift["exported"], abs=0.01)
    assert 0.5 < drift["measured"] < 1
    moved = by_name["int8", "sample: max |Δcosine| from fp32"]
    assert moved["measured"] == pytest.approx(moved["exported"], abs=1e-3)
    assert moved["measured"] > 1e-3


def test_the_table_shows_what_json_holds(directory: Path, pairs: Path) -> None:
    with_figures(directory, {})
    arguments = ["--pairs", pairs, "--split", "test"]
    done = verify(directory, *arguments)
    assert done.exit_code == 0, done.stderr
    assert not done.stderr
    head, *lines = done.stdout.splitlines()
    assert head == f"{directory}: 4 files as exported; ran fp32 on cpu, int8 on cpu"
    rows = [re.split(r" {2,}", line.strip()) for line in lines]
    for check in found(directory, *arguments)["checks"]:
        (row,) = (row for row in rows if row[:2] == [check["variant"], check["what"]])
        assert float(row[2]) == pytest.approx(check["measured"], rel=1e-3)
        assert row[-1] == "ok"


def test_one_variant(directory: Path) -> None:
    content = found(directory, "--precision", "int8")
    assert {check["variant"] for check in content["checks"]} == {"int8"}
    assert not [check for check in content["checks"] if "fp32" in check["what"]]


def test_a_variant_that_computes_otherwise_is_one_clear_line(directory: Path) -> None:
    vocabulary = tiny_tokenizer().get_vocab_size()
    replace_model(directory, tiny_model(vocabulary=vocabulary, dimension=16, seed=7), precision="int8")
    done = verify(directory)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"flipkd: error: {directory}: int8 self-test distance ")
    assert f" is not ≤ {REFERENCE_DISTANCE:g}; int8 sample: Spearman with fp32 " in done.stderr
    assert "fp32 self-test" not in done.stderr
    failed = [line.split()[:3] for line in done.stdout.splitlines() if line.endswith("FAILED")]
    assert failed == [["int8", "self-test", "distance"], ["int8", "sample:", "Spearman"]]
    content = found(directory)
    assert not content["passed"]
    assert [check["variant"] for check in content["checks"] if not check["passed"]] == ["int8", "int8"]


def test_scores_that_move_with_their_batch_are_found(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = TextEncoder.encode_with_tokens

    def moving(self: TextEncoder, tokens: list[Any], **options: Any) -> Encoded:
        encoded = encode(self, tokens, **options)
        return encoded._replace(vectors=encoded.vectors + np.float32(1e-4 * (len(tokens) > 1)))

    monkeypatch.setattr(TextEncoder, "encode_with_tokens", moving)
    failed = [check["what"] for check in found(directory)["checks"] if not check["passed"]]
    assert failed[:4] == [
        "sample: alone / batched",
        "sample: alone / in small batches",
        "sample: alone / reversed",
        "sample: alone / with other threads",
    ]


def test_the_order_of_a_batch_is_looked_at(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = TextEncoder.encode_with_tokens

    def first_moves(self: TextEncoder, tokens: list[Any], **options: Any) -> Encoded:
        encoded = encode(self, tokens, **options)
        encoded.vectors[0] += 1e-3
        return encoded

    monkeypatch.setattr(TextEncoder, "encode_with_tokens", first_moves)
    assert "sample: alone / reversed" in [c["what"] for c in found(directory)["checks"] if not c["passed"]]


def test_pairs_are_measured_as_evaluate_does(directory: Path, pairs: Path) -> None:
    by_name = checks(found(directory, "--pairs", pairs))
    done = CliRunner().invoke(cli, ["evaluate", str(directory), str(pairs), "--precision", "int8", "--json"])
    evaluated = json.loads(done.stdout)
    for name in ("average_precision", "f1"):
        check = by_name["int8", f"pairs: {name.replace('_', ' ')}"]
        assert check["measured"] == pytest.approx(evaluated[name], abs=1e-6)
        assert check["exported"] is check["at_most"] is check["at_least"] is None
    cosines = []
    for precision in ("int8", "fp32"):
        with Matcher.load(directory, precision=precision, device="cpu", on_truncate="ignore") as matcher:
            a, b = matcher.encode(PAIRS.a), matcher.encode(PAIRS.b)
            cosines.append((a * b).sum(axis=1))
    assert by_name["int8", "pairs: Spearman with fp32"]["measured"] == pytest.approx(spearman(*cosines), abs=1e-3)
    moved = by_name["int8", "pairs: max |Δcosine| from fp32"]["measured"]
    assert moved == pytest.approx(np.abs(cosines[0] - cosines[1]).max(), abs=1e-6)
    assert by_name["fp32", "pairs: alone / batched"]["measured"] <= 1e-6


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"f1": 1.0}, ["pairs: f1"] * 2),
        ({"average_precision": 0.0, "f1": 0.0}, ["pairs: average precision", "pairs: f1"] * 2),
    ],
)
def test_a_known_split_must_give_its_figures_again(
    directory: Path, pairs: Path, changes: dict[str, float], failed: list[str]
) -> None:
    with_figures(directory, changes)
    content = found(directory, "--pairs", pairs, "--split", "test")
    assert [check["what"] for check in content["checks"] if not check["passed"]] == failed
    assert verify(directory, "--pairs", pairs).exit_code == 0, "other pairs have other figures"


def test_a_directory_of_the_first_format_is_checked_without_a_self_test(tiny_matcher: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(tiny_matcher, tmp_path / "matcher")
    write_manifest(directory, replace(read_manifest(directory), format_version=1))
    assert "self_test" not in (directory / "manifest.json").read_text()
    done = verify(directory)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[0].endswith("; no self-test in it, export it again for one")
    what = {check["what"] for check in found(directory)["checks"]}
    assert "self-test distance" not in what
    assert {"sample: alone / reversed", "sample: Spearman with fp32"} <= what
    assert FORMAT_VERSION > 1


def test_a_matcher_of_one_variant(tmp_path: Path) -> None:
    directory = write_tiny_matcher(tmp_path / "matcher", precisions=("int8",), max_length=3)
    add_self_test(directory)
    assert {check["what"] for check in found(directory)["checks"]} == {
        "self-test distance",
        *(f"sample: alone / {way}" for way in ("batched", "in small batches", "reversed", "with other threads")),
    }


def damaged(directory: Path, name: str) -> None:
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(content)


@pytest.mark.parametrize("name", ["tokenizer.json", "model_fp32.onnx", "model_int8.onnx", "self_test.json"])
@pytest.mark.parametrize("precision", [[], ["--precision", "int8"]])
def test_every_file_is_checked(directory: Path, name: str, precision: list[str]) -> None:
    damaged(directory, name)
    done = verify(directory, *precision)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"flipkd: error: {directory / name}: its SHA-256 differs")
    (directory / name).unlink()
    assert verify(directory).stderr.startswith(f"flipkd: error: {directory / name}: named in the manifest but missing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "pairs.csv: no such file"),
        ("text_a,text_b,label\na,b,1\nc,d,maybe\n", "pairs.csv:3: column 'label': label \"maybe\"; expected 0 or 1"),
        ("text_a,text_b,label\na,b,1\n", "pairs.csv: all 1 pairs have label 1"),
        ("text_a,text_b\na,b\n", "label"),
        ("", "pairs.csv"),
    ],
)
def test_pairs_with_problems_are_one_line(directory: Path, pairs: Path, content: str | None, message: str) -> None:
    pairs.unlink()
    if content is not None:
        pairs.write_text(content)
    done = verify(directory, "--pairs", pairs)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("flipkd: error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_what_cannot_be_is_refused(directory: Path, pairs: Path, tmp_path: Path) -> None:
    for code, message, *arguments in (
        (1, "this matcher has no 'int4' variant; it has: fp32, int8", "--precision", "int4"),
        (1, "unknown device 'tpu'", "--device", "tpu"),
        (1, "has no figures of a split 'test'; it has: none", "--pairs", str(pairs), "--split", "test"),
        (2, "give --pairs FILE too", "--split", "test"),
        (2, "is not in the range", "--threads", "0"),
    ):
        done = verify(directory, *arguments)
        assert (done.exit_code, done.stdout) == (code, ""), arguments
        assert message in done.stderr
    assert verify(tmp_path / "absent").stderr.startswith(f"flipkd: error: {tmp_path / 'absent'}: no such directory")
    content = json.loads((directory / "manifest.json").read_text()) | {"format_version": FORMAT_VERSION + 1}
    (directory / "manifest.json").write_text(json.dumps(content))
    assert "newer than this release reads" in verify(directory).stderr


def test_a_figure_that_is_no_number_fails() -> None:
    assert not verification.Check("int8", "f1", float("nan"), at_least=0.5).passed
    assert not verification.Check("int8", "f1", float("nan"), at_most=0.5).passed


def test_it_runs_with_the_base_install_and_onnxruntime_alone(directory: Path, pairs: Path) -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'peft', 'optimum', 'onnx', 'onnx_ir', 'onnxscript', 'pydantic'):\n"
        "    sys.modules[name] = None\n"
        "from flipkd_sdk.cli.main import run\n"
        "run()\n"
    )
    command = [sys.executable, "-c", script, "verify", str(directory), "--pairs", str(pairs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "self-test distance" in done.stdout
