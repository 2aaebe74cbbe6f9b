from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import CALIBRATION, TEXTS, write_tiny_matcher

from flipkd_sdk.artifact import manifest
from flipkd_sdk.artifact.manifest import sha256_of
from flipkd_sdk.errors import CandidateSetError, ConfigError, FlipKDError, OutputExistsError
from flipkd_sdk.evaluation.calibration import Calibration
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.search.candidates import CandidateSet
from flipkd_sdk.runtimes.search.files import read_candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION_1 = Path(__file__).parent / "fixtures" / "candidates_v1"
ODD = [*TEXTS, "line\nbreak\r\n", "\u2028", "\x00", '"', "\ud800 alone", "\\u0041"]


@pytest.fixture(scope="module")
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision="fp32", on_truncate="ignore") as opened:
        yield opened


@pytest.fixture
def saved(matcher: Matcher, tmp_path: Path) -> Path:
    matcher.candidates(TEXTS).save(tmp_path / "faq")
    return tmp_path / "faq"


@pytest.mark.parametrize("mmap", [False, True])
def test_a_saved_set_comes_back(matcher: Matcher, tmp_path: Path, mmap: bool) -> None:
    before = matcher.candidates(ODD)
    before.save(tmp_path / "faq")
    after = CandidateSet.load(tmp_path / "faq", matcher, mmap=mmap)
    assert after.texts == ODD
    assert isinstance(after.vectors.base, np.memmap) is mmap
    np.testing.assert_array_equal(after.vectors, before.vectors)
    for query in ODD:
        assert [match.index for match in after.rank(query)] == [match.index for match in before.rank(query)]
    assert [file.name for file in tmp_path.iterdir()] == ["faq"]
    # Any reader of numpy's format can take the vectors from there.
    np.testing.assert_array_equal(np.load(tmp_path / "faq" / "vectors.npy"), before.vectors)


def test_a_file_that_changes_after_loading_changes_nothing(saved: Path, matcher: Matcher) -> None:
    loaded = CandidateSet.load(saved, matcher)
    before = loaded.rank(TEXTS[0])
    (saved / "vectors.npy").write_bytes(b"")
    assert loaded.rank(TEXTS[0]) == before


def test_a_directory_of_format_version_1_still_loads(matcher: Matcher) -> None:
    """Written by the release before the hash of the vectors; its matcher need not come out alike on every machine."""
    identity = json.loads((VERSION_1 / "candidates.json").read_text())["matcher"]
    for mmap in (False, True):
        texts, vectors = read_candidates(VERSION_1, identity=identity, dimension=16, mmap=mmap)
        assert texts == [*TEXTS, "line\nbreak\r\n", "\u2028", "\ud800 alone"]
        np.testing.assert_allclose(vectors, matcher.encode(texts), atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0, 0.0])
@pytest.mark.parametrize("mmap", [False, True])
def test_vectors_of_another_length_are_refused_without_a_hash(tmp_path: Path, value: float, mmap: bool) -> None:
    shutil.copytree(VERSION_1, tmp_path / "faq")
    vectors = np.load(tmp_path / "faq" / "vectors.npy")
    vectors[7] = value
    np.save(tmp_path / "faq" / "vectors.npy", vectors)
    identity = json.loads((VERSION_1 / "candidates.json").read_text())["matcher"]
    with pytest.raises(CandidateSetError, match=r"vectors\.npy: contains a vector whose length is not 1"):
        read_candidates(tmp_path / "faq", identity=identity, dimension=16, mmap=mmap)


@pytest.mark.parametrize("mmap", [False, True])
def test_a_changed_vector_is_refused_by_its_hash(saved: Path, matcher: Matcher, mmap: bool) -> None:
    vectors = np.load(saved / "vectors.npy")
    vectors[0] = vectors[1]
    np.save(saved / "vectors.npy", vectors)
    with pytest.raises(CandidateSetError, match=r"vectors\.npy: its SHA-256 differs"):
        CandidateSet.load(saved, matcher, mmap=mmap)


def test_an_empty_set_can_be_saved(matcher: Matcher, tmp_path: Path) -> None:
    matcher.candidates([]).save(tmp_path / "faq")
    loaded = CandidateSet.load(tmp_path / "faq", matcher)
    assert loaded.rank("a") == []
    loaded.append(["a"])
    assert [match.text for match in loaded.rank("a")] == ["a"]


def test_a_loaded_set_can_be_changed_and_saved_over_its_directory(saved: Path, matcher: Matcher) -> None:
    original = (saved / "vectors.npy").read_bytes()
    loaded = CandidateSet.load(saved, matcher)
    loaded.append([])
    loaded.append(["new"])
    loaded.remove([0])
    assert (saved / "vectors.npy").read_bytes() == original
    loaded.save(saved, overwrite=True)
    assert CandidateSet.load(saved, matcher).texts == [*TEXTS[1:], "new"]
    assert [file.name for file in saved.parent.iterdir()] == ["faq"]


def test_save_replaces_nothing_without_overwrite_and_nothing_foreign(
    saved: Path, matcher: Matcher, tmp_path: Path
) -> None:
    with pytest.raises(OutputExistsError, match="faq: exists already; pass overwrite=True"):
        matcher.candidates(["a"]).save(saved)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError, match="mine: not a directory of candidates"):
        matcher.candidates(["a"]).save(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    assert len(CandidateSet.load(saved, matcher)) == len(TEXTS)


def test_a_save_that_fails_leaves_nothing(matcher: Matcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        matcher.candidates(TEXTS).save(tmp_path / "faq")
    assert list(tmp_path.iterdir()) == []


def test_a_set_of_another_matcher_is_refused(saved: Path, matcher: Matcher, tiny_matcher: Path, tmp_path: Path) -> None:
    with (
        Matcher.load(tiny_matcher, precision="int8") as coarser,
        Matcher.load(write_tiny_matcher(tmp_path / "other", seed=1)) as other,
        Matcher.load(write_tiny_matcher(tmp_path / "shorter", max_length=16)) as shorter,
    ):
        for foreign in (coarser, other, shorter):
            with pytest.raises(CandidateSetError, match="made by another model"):
                CandidateSet.load(saved, foreign)
    curve = Calibration(slope=9.0, intercept=-1.0, threshold=0.5, objective="f1", size=40)
    with Matcher.load(write_tiny_matcher(tmp_path / "recalibrated", calibration=curve)) as recalibrated:
        assert recalibrated.identity == matcher.identity
        assert recalibrated.manifest.calibration != CALIBRATION
        (match,) = CandidateSet.load(saved, recalibrated).rank(TEXTS[1], top_k=1)
        assert match.score == pytest.approx(recalibrated.score(TEXTS[1], match.text), abs=1e-6)


def test_a_set_of_another_scoring_version_is_refused(
    saved: Path, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "SCORING_VERSION", 2)
    with pytest.raises(CandidateSetError, match="made by another"):
        CandidateSet.load(saved, matcher)


def rewrite(**changes: object) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        content = json.loads((path / "candidates.json").read_text())
        (path / "candidates.json").write_text(json.dumps({**content, **changes}))

    return change


def put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(content)


def array(values: Any) -> Callable[[Path], object]:
    return lambda path: np.save(path / "vectors.npy", values)


def cut(name: str) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:-5])


def link(name: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        shutil.move(path / name, path.parent / name)
        (path / name).symlink_to(path.parent / name)

    return change


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path / "vectors.npy", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vectors.npy", bytes(1 << 20))


def pickled(path: Path) -> None:
    np.save(path / "vectors.npy", np.array([{}] * len(TEXTS), dtype=object), allow_pickle=True)


def not_ascii(path: Path) -> None:
    (path / "texts.jsonl").write_bytes('"é"\n'.encode("latin-1") * len(TEXTS))
    rewrite(texts_sha256=sha256_of(path / "texts.jsonl"))(path)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no directory": (shutil.rmtree, "missing or not a plain file"),
    "no vectors": (lambda path: (path / "vectors.npy").unlink(), r"vectors\.npy: missing"),
    "a link": (link("texts.jsonl"), r"texts\.jsonl: missing or not a plain file"),
    "no JSON": (put("candidates.json", b"{"), "not valid JSON"),
    "deep JSON": (put("candidates.json", b"[" * 60000), "not valid JSON"),
    "a huge manifest": (lambda path: rewrite(matcher="a" * 10**6)(path), "not valid JSON"),
    "a list": (put("candidates.json", b"[]"), "no format version"),
    "no version": (rewrite(format_version=None), "no format version"),
    "a newer version": (rewrite(format_version=3), "newer than this release reads"),
    "an unknown key": (rewrite(more=1), "expected the keys"),
    "a wrong type": (rewrite(count="ten"), "expected the keys"),
    "a number for true": (rewrite(count=True), "expected the keys"),
    "a changed text": (put("texts.jsonl", b'"a"\n'), "SHA-256 differs"),
    "texts in another encoding": (not_ascii, "not a JSON string"),
    "texts cut short": (cut("texts.jsonl"), "SHA-256 differs"),
    "another count": (rewrite(count=11), "10 texts instead of 11"),
    "vectors cut short": (cut("vectors.npy"), "bytes do not fit 10 vectors"),
    "more bytes": (lambda path: (path / "vectors.npy").open("ab").write(bytes(64)), "bytes do not fit 10 vectors"),
    "an older version": (rewrite(format_version=1), "expected the keys"),
    "no array": (put("vectors.npy", b"no array"), "not an array in numpy's format"),
    "nothing": (put("vectors.npy", b""), "not an array in numpy's format"),
    "a pickle": (put("vectors.npy", pickle.dumps({})), "not an array in numpy's format"),
    "pickled objects": (pickled, "object vectors of shape"),
    "an archive": (zipped, "not an array in numpy's format"),
    "other numbers": (array(np.zeros((len(TEXTS), 16))), "do not belong together"),
    "another shape": (array(np.zeros((len(TEXTS) + 1, 16), dtype=np.float32)), "do not belong together"),
    "one dimension": (array(np.zeros(len(TEXTS) * 16, dtype=np.float32)), "do not belong together"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_directory_that_was_tampered_with_is_refused(case: str, saved: Path, matcher: Matcher) -> None:
    change, message = BAD[case]
    change(saved)
    with pytest.raises(CandidateSetError, match=message) as caught:
        CandidateSet.load(saved, matcher)
    assert "\n" not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["candidates.json", "texts.jsonl", "vectors.npy"]),
    place=st.floats(0, 1, exclude_max=True),
    new=st.binary(max_size=8),
    length=st.integers(0, 8),
)
def test_random_damage_is_an_error_or_moves_no_score(
    saved: Path, matcher: Matcher, name: str, place: float, new: bytes, length: int
) -> None:
    original = (saved / name).read_bytes()
    start = int(place * len(original))
    try:
        (saved / name).write_bytes(original[:start] + new + original[start + length :])
        assert CandidateSet.load(saved, matcher).rank("a", top_k=3) == matcher.rank("a", TEXTS, top_k=3)
    except FlipKDError as error:
        assert not isinstance(error, ConfigError)
    finally:
        (saved / name).write_bytes(original)


def test_the_manifest_names_the_matcher_and_the_shape(saved: Path, matcher: Matcher) -> None:
    content = json.loads((saved / "candidates.json").read_text())
    assert (content["format_version"], content["matcher"], content["count"], content["dimension"]) == (
        2,
        matcher.identity,
        len(TEXTS),
        16,
    )


def test_the_identity_follows_the_tokenizer(matcher: Matcher) -> None:
    tokenizer = matcher.manifest.tokenizer
    with pytest.MonkeyPatch.context() as patch:
        for change in ({"sha256": "0"}, {"max_length": 3}, {"empty_token_id": 1}):
            before = matcher.identity
            patch.setattr(matcher.scorer, "manifest", replace(matcher.manifest, tokenizer=replace(tokenizer, **change)))
            assert matcher.identity != before
