from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flipkd_sdk.artifact.manifest import (
    FORMAT_VERSION,
    SCORING_VERSION,
    TrimmedVocabulary,
    Variant,
    checked_file,
    read_manifest,
)
from flipkd_sdk.errors import MatcherDirectoryError, UnsupportedFormatError
from flipkd_sdk.evaluation.calibration import Calibration, SearchThreshold

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parent / "fixtures"
V1 = (FIXTURES / "manifest_v1.json").read_text(encoding="utf-8")
V2 = (FIXTURES / "manifest_v2.json").read_text(encoding="utf-8")


def write(directory: Path, text: str | bytes) -> Path:
    (directory / "manifest.json").write_bytes(text.encode() if isinstance(text, str) else text)
    return directory


def changed(path: str, value: Any, *, text: str = V1) -> str:
    """A fixture with the value at a dotted path replaced, or removed where it is ``...``."""
    content = json.loads(text)
    *parents, last = path.split(".")
    target = content
    for key in parents:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(content)


def rejection(directory: Path, text: str | bytes) -> str:
    with pytest.raises(MatcherDirectoryError) as caught:
        read_manifest(write(directory, text))
    message = str(caught.value)
    assert message.startswith(f"{directory / 'manifest.json'}: ")
    assert message.isprintable(), "one line, and nothing that could steer a terminal"
    return message


def test_the_first_format_stays_readable(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, V1))
    assert manifest.format_version == 1
    assert manifest.calibration == Calibration(9.5, -6.25, 0.4375, "f1", 610)
    assert manifest.variant("int8").providers == ("CPUExecutionProvider", "CUDAExecutionProvider")
    assert manifest.variant("fp32").drift.spearman == 1.0
    assert type(manifest.variant("fp32").drift.spearman) is float
    assert manifest.tokenizer.special_tokens == ()
    assert manifest.metrics["test/int8"]["f1"] == 0.84


def test_the_second_format_names_a_self_test(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, V2))
    assert manifest.format_version == 2
    assert manifest.self_test is not None
    shutil.copy(FIXTURES / "self_test_v2.json", tmp_path / "self_test.json")
    assert checked_file(tmp_path, manifest.self_test) == tmp_path / "self_test.json"
    assert [entry.file for entry in manifest.files][-1] == "self_test.json"


def test_each_format_has_its_own_keys(tmp_path: Path) -> None:
    content = json.loads(V2)
    assert "manifest: unknown key 'self_test'" in rejection(tmp_path, json.dumps(content | {"format_version": 1}))
    for key in ("self_test", "trimmed_vocabulary"):
        assert f"key '{key}' is missing" in rejection(tmp_path, changed(key, ..., text=V2))
        assert getattr(read_manifest(write(tmp_path, changed(key, None, text=V2))), key) is None


SEARCH = {"threshold": 0.97, "precision": 0.95, "searches": 400, "answered": 120}


def third(search: object) -> str:
    content = json.loads(V2) | {"format_version": 3, "head": None}
    return json.dumps(content | {"calibration": content["calibration"] | {"search": search}})


def test_a_release_refuses_a_later_format_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flipkd_sdk.artifact.manifest.FORMAT_VERSION", 2)
    message = "format version 3 is newer than this release reads (2); upgrade flipkd-sdk"
    assert message in rejection(tmp_path, third(SEARCH))


def test_the_third_format_may_have_a_search_threshold(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path, V1)).calibration.search is None
    assert read_manifest(write(tmp_path, third(SEARCH))).calibration.search == SearchThreshold(0.97, 0.95, 400, 120)
    assert read_manifest(write(tmp_path, third(None))).calibration.search is None
    without = json.loads(third(None))
    del without["calibration"]["search"]
    assert read_manifest(write(tmp_path, json.dumps(without))).calibration.search is None
    older = json.dumps(json.loads(third(SEARCH)) | {"format_version": 2})
    assert "unknown key" in rejection(tmp_path, older)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.1}, r"calibration.search: threshold or precision not in [0, 1]"),
        ({"precision": 0}, r"calibration.search: threshold or precision not in [0, 1]"),
        ({"answered": 401}, "calibration.search: answered is not between 0 and searches"),
        ({"more": 1}, "calibration.search: unknown key 'more'"),
        ({"threshold": True}, "calibration.search.threshold: expected float, found bool"),
    ],
)
def test_a_malformed_search_threshold_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    assert message in rejection(tmp_path, third(SEARCH | change))


@pytest.mark.parametrize("text", [V1, V2, third(SEARCH)], ids=["V1", "V2", "V3"])
def test_round_trip(tmp_path: Path, text: str) -> None:
    manifest = read_manifest(write(tmp_path, text))
    renamed = dataclasses.replace(manifest, student=dataclasses.replace(manifest.student, source="学生/é"))
    assert read_manifest(write(tmp_path, renamed.to_json())) == renamed
    assert renamed.to_json() == renamed.to_json()


def test_the_second_format_knows_a_trimmed_vocabulary(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path, V1)).trimmed_vocabulary is None
    assert read_manifest(write(tmp_path, changed("trimmed_vocabulary", None, text=V2))).trimmed_vocabulary is None
    expected = TrimmedVocabulary(16_384, 49_152, 576, 0.98, 1.02, 0.993, 0.22, -0.002)
    assert read_manifest(write(tmp_path, V2)).trimmed_vocabulary == expected
    assert "trimmed_vocabulary.tokens: expected int, found float" in rejection(
        tmp_path, changed("trimmed_vocabulary.tokens", 1.5, text=V2)
    )


def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, V1))
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(manifest, metrics={"dev": {"f1": math.nan}}).to_json()


def test_an_absent_variant_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(MatcherDirectoryError, match="no 'int4' variant; it has: fp32, int8"):
        read_manifest(write(tmp_path, V1)).variant("int4")


@pytest.mark.parametrize("version", [..., None, "1", 1.0, True, 0, -1])
def test_a_missing_format_version_is_refused(tmp_path: Path, version: Any) -> None:
    with pytest.raises(UnsupportedFormatError, match="no format version"):
        read_manifest(write(tmp_path, changed("format_version", version)))


def test_a_newer_format_is_refused_before_its_keys_are_judged(tmp_path: Path) -> None:
    content = json.loads(V1) | {"format_version": FORMAT_VERSION + 1, "new_key": 1}
    with pytest.raises(UnsupportedFormatError, match=r"newer than this release reads .* upgrade"):
        read_manifest(write(tmp_path, json.dumps(content)))


@pytest.mark.parametrize("version", [..., None, "1", 1.0, True, 0, -1, SCORING_VERSION + 1, 99])
def test_a_scoring_version_that_this_release_does_not_have_is_refused(tmp_path: Path, version: Any) -> None:
    with pytest.raises(UnsupportedFormatError, match=r"scoring version .* export the matcher again"):
        read_manifest(write(tmp_path, changed("scoring_version", version)))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_a_manifest_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    rejection(tmp_path, V1.replace("MIT", "M\u00efT").encode(encoding))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("surprise", 1, "manifest: unknown key 'surprise'"),
        ("encoder.surprise\x1b[2J\n", 1, "manifest.encoder: unknown key"),
        ("student", ..., "manifest: key 'student' is missing"),
        ("variants.int8.drift.spearman", ..., "key 'spearman' is missing"),
        ("variants.int8.bytes", "6", "manifest.variants['int8'].bytes: expected int, found str"),
        ("variants.int8.bytes", 6.0, "expected int, found float"),
        ("variants.int8.bytes", True, "expected int, found bool"),
        ("calibration.slope", True, "expected float, found bool"),
        ("calibration.slope", None, "expected float, found NoneType"),
        ("calibration.slope", 10**400, "manifest.calibration.slope: not a finite number"),
        ("calibration.slope", 0.0, "manifest.calibration.slope: not positive"),
        ("calibration.threshold", 1.5, "manifest.calibration.threshold: not in [0, 1]"),
        ("tokenizer.special_tokens", "<s>", "manifest.tokenizer.special_tokens: not a list"),
        ("tokenizer.special_tokens", [1], "manifest.tokenizer.special_tokens[0]: expected str"),
        ("tokenizer.max_length", 0, "must be positive"),
        ("encoder.dimension", 0, "must be positive"),
        ("encoder", [], "manifest.encoder: not an object"),
        ("variants", [], "manifest.variants: not an object"),
        ("variants", {}, "manifest.variants: empty"),
        ("variants", {"a\nb": 1}, "manifest.variants['a\\nb']: not an object"),
        ("metrics", {"dev": {"f1": "high"}}, "manifest.metrics['dev']['f1']: expected float"),
    ],
)
def test_a_manifest_with_other_content_is_refused(tmp_path: Path, path: str, value: Any, message: str) -> None:
    assert message in rejection(tmp_path, changed(path, value))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: str) -> None:
    assert "finite number" in rejection(tmp_path, V1.replace("0.028", number))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        V1.replace('"licence": "MIT"', '"licence": "MIT", "licence": "GPL"'),
        "[" * 100_000,
        '{"format_version": 1, "metrics": ' + '{"a": ' * 100_000,
        V1.replace("610", "9" * 5_000),
        " " * (1 << 20) + V1,
    ],
    ids=["empty", "list", "null", "cut", "bytes", "twice", "deep list", "deep object", "digits", "large"],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str | bytes) -> None:
    rejection(tmp_path, text)


def test_a_double_key_is_reported_as_one(tmp_path: Path) -> None:
    assert "an object has a key twice" in rejection(tmp_path, V1.replace('"layer": 4', '"layer": 4, "layer": 5'))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../model.onnx",
        "/etc/passwd",
        "sub/model.onnx",
        "model.onnx/",
        "..\\model.onnx",
        "C:model.onnx",
        "\\\\host\\share",
        "model\0.onnx",
        "model\n.onnx",
        "\ud800",
        "m" * 300,
    ],
)
@pytest.mark.parametrize("entry", ["tokenizer.file", "variants.int8.file", "self_test.file"])
def test_file_names_that_leave_the_directory_are_refused(tmp_path: Path, entry: str, name: str) -> None:
    assert "is not a plain file name" in rejection(tmp_path, changed(entry, name, text=V2))


def test_a_directory_that_is_no_matcher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MatcherDirectoryError, match="no such directory"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(MatcherDirectoryError, match=r"manifest\.json: missing"):
        read_manifest(tmp_path)


def test_a_symlinked_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text(V1)
    (tmp_path / "manifest.json").symlink_to("real.json")
    with pytest.raises(MatcherDirectoryError, match="a symlink"):
        read_manifest(tmp_path)


@pytest.fixture
def variant(tmp_path: Path) -> Callable[[bytes], Variant]:
    template = read_manifest(write(tmp_path, V1)).variant("int8")

    def of(content: bytes) -> Variant:
        digest = hashlib.sha256(content).hexdigest()
        return dataclasses.replace(template, sha256=digest, bytes=len(content))

    return of


def test_the_exported_file_is_accepted(tmp_path: Path, variant: Callable[[bytes], Variant]) -> None:
    (tmp_path / "model_int8.onnx").write_bytes(b"weights")
    assert checked_file(tmp_path, variant(b"weights")) == tmp_path / "model_int8.onnx"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"weight", "6 bytes instead of 7"), (b"weighty", "SHA-256 differs"), (None, "missing; export the matcher again")],
)
def test_another_file_is_refused(
    tmp_path: Path, variant: Callable[[bytes], Variant], content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "model_int8.onnx").write_bytes(content)
    with pytest.raises(MatcherDirectoryError, match=message):
        checked_file(tmp_path, variant(b"weights"))


def test_a_symlinked_file_is_refused_whatever_it_holds(tmp_path: Path, variant: Callable[[bytes], Variant]) -> None:
    (tmp_path / "elsewhere").write_bytes(b"weights")
    (tmp_path / "model_int8.onnx").symlink_to("elsewhere")
    with pytest.raises(MatcherDirectoryError, match="a symlink"):
        checked_file(tmp_path, variant(b"weights"))


def test_a_directory_in_the_place_of_a_file_is_refused(tmp_path: Path, variant: Callable[[bytes], Variant]) -> None:
    (tmp_path / "model_int8.onnx").mkdir()
    with pytest.raises(MatcherDirectoryError, match="missing"):
        checked_file(tmp_path, variant(b"weights"))
