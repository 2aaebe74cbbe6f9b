"""Texts and directories made to do harm: they score or are refused by name, and never crash, hang or reach outside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny import TEXTS, replace_model, replace_tokenizer, tiny_model, write_manifest, write_tiny_matcher

from flipkd_sdk.artifact.manifest import MANIFEST_FILE, read_manifest
from flipkd_sdk.errors import FlipKDError, MatcherDirectoryError
from flipkd_sdk.runtimes.matcher import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY_CHARACTER = st.characters(codec=None, exclude_categories=[])
MARKS = "\u202e\u2066\u200f\u200b\u0301\ufeff\ufffe\uffff\x00\x1b\x7f\x85\u2028\ud800\udfff\U0010ffff\U000e0001"
HUGE = 10_000_000


@pytest.fixture(scope="module")
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, on_truncate="ignore", on_blank="score") as opened:
        yield opened


@given(st.one_of(st.text(ANY_CHARACTER), st.text(st.sampled_from(MARKS)), st.text(st.sampled_from(MARKS + "a "))))
@example("".join(map(chr, range(0, 0x110000, 0x101))))
def test_a_text_of_any_characters_scores_like_itself_everywhere(matcher: Matcher, text: str) -> None:
    score = matcher.score(text, TEXTS[0])
    assert 0 <= score <= 1
    assert matcher.score_pairs([(text, TEXTS[0]), ("a", text)])[0] == pytest.approx(score, abs=1e-6)
    assert matcher.score(text, text) == pytest.approx(matcher.score("a", "a"), abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "a" * HUGE,
        " " * HUGE,
        "问" * HUGE,
        "a " * (HUGE // 2),
        "a" + "\u0301" * HUGE,
        "\ud800" * HUGE,
        "<s>" * (HUGE // 3),
        "\ufdfa" * HUGE,
    ],
    ids=lambda text: ascii(text[:2]),
)
def test_a_text_of_ten_million_characters_scores_at_once(matcher: Matcher, text: str) -> None:
    assert matcher.score(text, text[:-1]) == pytest.approx(matcher.score("a", "a"), abs=1e-6)


def rewritten(tokenizer: dict[str, Any], path: list[str | int], value: object) -> dict[str, Any]:
    """A copy of parsed JSON with the value at a path replaced."""
    copy: dict[str, Any] = json.loads(json.dumps(tokenizer))
    inner: Any = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return copy


def paths(value: object, here: tuple[str | int, ...] = ()) -> Iterator[list[str | int]]:
    """The way to each value in parsed JSON, of long lists and objects to their first ones."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for _, (key, inner) in zip(range(12), items, strict=False):
        yield [*here, key]
        yield from paths(inner, (*here, key))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.sampled_from(["Replace", "BPE", "WordPiece", "Unigram", "ByteLevel", "Precompiled"]).map(lambda t: {"type": t}),
    st.just({"type": "Replace", "pattern": {"Regex": "(a|a)*$"}, "content": "b"}),
    st.just({"type": "Split", "pattern": {"Regex": "(?=a)"}, "behavior": "Removed", "invert": True}),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_tokenizer_file_with_one_thing_changed_is_refused_or_serves(
    tiny_matcher: Path, tmp_path: Path, data: st.DataObject
) -> None:
    directory = tmp_path / "matcher"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(tiny_matcher, directory)
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    changed = rewritten(tokenizer, data.draw(st.sampled_from(list(paths(tokenizer)))), data.draw(JUNK))
    replace_tokenizer(directory, json.dumps(changed).encode())
    try:
        with Matcher.load(directory, on_truncate="ignore") as opened:
            assert all(0 <= score <= 1 for score in opened.score_pairs([("a" * 40 + "!", "b"), ("", "<s> x")]))
    except FlipKDError as error:
        assert "\n" not in str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_manifest_with_one_thing_changed_is_refused_or_serves(
    tiny_matcher: Path, tmp_path: Path, data: st.DataObject
) -> None:
    directory = tmp_path / "matcher"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(tiny_matcher, directory)
    manifest = json.loads((directory / MANIFEST_FILE).read_text())
    names = st.sampled_from(["../matcher/tokenizer.json", "/etc/passwd", "model_fp32.onnx", MANIFEST_FILE, "."])
    changed = rewritten(manifest, data.draw(st.sampled_from(list(paths(manifest)))), data.draw(st.one_of(JUNK, names)))
    (directory / MANIFEST_FILE).write_text(json.dumps(changed))
    try:
        with Matcher.load(directory, on_truncate="ignore") as opened:
            assert 0 <= opened.score("a", "b") <= 1
    except FlipKDError as error:
        assert "\n" not in str(error)


DAMAGE = """
import os, random, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tiny import replace_model
from flipkd_sdk import FlipKDError, Matcher
directory, draw = Path(sys.argv[1]), random.Random(7)
original = (directory / "model_fp32.onnx").read_bytes()
loaded = 0
for _ in range(150):
    content = bytearray(original)
    for _ in range(draw.randint(1, 4)):
        # The graph stands in front of the weights, and most of it is names and sizes.
        place = draw.randrange(len(content)) if draw.random() < 0.2 else draw.randrange(1500)
        content[place : place + draw.randint(0, 2)] = draw.randbytes(draw.randint(0, 2))
    replace_model(directory, bytes(content))
    try:
        with Matcher.load(directory, precision="fp32", threads=1) as matcher:
            assert 0 <= matcher.score("a", "b") <= 1
            loaded += 1
    except FlipKDError as error:
        assert "\\n" not in str(error)
assert 0 < loaded < 150, loaded
"""


def test_a_damaged_model_file_is_refused_or_serves(tiny_matcher: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(tiny_matcher, tmp_path / "matcher")
    # In a process of its own, as a crash of onnxruntime would end this one.
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(directory), str(Path(__file__).parent.parent)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", ["tokenizer.json", "model_fp32.onnx"])
def test_a_file_that_is_too_large_is_refused_unread(name: str, tmp_path: Path) -> None:
    directory = write_tiny_matcher(tmp_path / "matcher")
    manifest = read_manifest(directory)
    with (directory / name).open("r+b") as file:
        file.truncate(1 << 40)
    if name == "tokenizer.json":
        manifest = replace(manifest, tokenizer=replace(manifest.tokenizer, bytes=1 << 40))
    else:
        manifest = replace(manifest, variants={"fp32": replace(manifest.variant("fp32"), bytes=1 << 40)})
    write_manifest(directory, manifest)
    with pytest.raises(MatcherDirectoryError, match=rf"{name}: 1099511627776 bytes; at most"):
        Matcher.load(directory)


def test_vectors_of_a_wrong_type_or_length_are_refused(tmp_path: Path) -> None:
    directory = write_tiny_matcher(tmp_path / "matcher")
    replace_model(directory, tiny_model(vocabulary=340, dimension=8))
    with pytest.raises(MatcherDirectoryError, match="instead of float32"):
        Matcher.load(directory)


def test_a_vocabulary_that_the_model_lacks_is_an_error_of_this_package(tmp_path: Path) -> None:
    directory = write_tiny_matcher(tmp_path / "matcher")
    replace_model(directory, tiny_model(vocabulary=3, dimension=16))
    with Matcher.load(directory) as matcher, pytest.raises(FlipKDError, match="onnxruntime failed on a batch"):
        matcher.score("a", "b")
