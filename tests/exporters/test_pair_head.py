"""A matcher with a pair head: the promises of scores hold with it, and files that do not fit are refused."""

from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny import TEXTS
from tiny_models import write_tiny_run

from flipkd_sdk.artifact.manifest import read_manifest, sha256_of
from flipkd_sdk.errors import ConfigError, MatcherDirectoryError
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.exporters.export import ExportOptions, export
from flipkd_sdk.pair_head.weights import read_weights, write_weights
from flipkd_sdk.pairs import Pairs
from flipkd_sdk.runtimes.load import LoadOptions
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.serving.microbatch import MicroBatcher
from flipkd_sdk.runtimes.verification import verify
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

HEAD = {
    "enabled": True,
    "context": 6,
    "lexical": 4,
    "neurons": 8,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.03,
    "teacher_pairs": 60,
    "sibling_pairs": 20,
}
PAIRS = [(a, b) for a in TEXTS for b in TEXTS]


@pytest.fixture(scope="module", params=[0, 1], ids=["no block", "one block"])
def directory(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, wide: ExportOptions) -> Path:
    base = tmp_path_factory.mktemp("heads")
    run = write_tiny_run(
        base / "run",
        head=HEAD,
        contrast={"language": "en"},
        student={"layer": request.param, "rank": 4, "site_rank": 16},
    )
    export(run, base / "matcher", replace(wide, variants=("int8", "int4", "fp32", "fp16")))
    return base / "matcher"


@pytest.fixture(scope="module", params=["int8", "int4", "fp32", "fp16"])
def matcher(directory: Path, request: pytest.FixtureRequest) -> Iterator[Matcher]:
    with Matcher.load(directory, precision=request.param, on_truncate="ignore", device="cpu") as opened:
        yield opened


def test_the_head_of_a_student_with_fewer_neurons_scores_as_at_its_training(
    tmp_path: Path, wide: ExportOptions
) -> None:
    student = {"layer": 1, "rank": 4, "site_rank": 16, "mlp_width": 20}
    run = read_run(write_tiny_run(tmp_path / "run", head=HEAD, contrast={"language": "en"}, student=student))
    test = run.split("test")
    assert test is not None
    export(run.directory, tmp_path / "matcher", replace(wide, variants=("fp32",)))
    with Matcher.load(tmp_path / "matcher", on_truncate="ignore", device="cpu") as matcher:
        assert matcher.has_head
        scores = matcher.score_pairs(zip(test.a, test.b, strict=True))
    expected = run.result.measures["student with head"]["test"]["average_precision"]
    assert average_precision(scores, test.label) == pytest.approx(expected, abs=0.02)


def test_the_head_decides_and_can_be_left_out(directory: Path, matcher: Matcher) -> None:
    with Matcher.load(
        directory, precision=matcher.precision, head=False, on_truncate="ignore", device="cpu"
    ) as without:
        assert matcher.has_head
        assert not without.has_head
        matrix = without.score_matrix(TEXTS, TEXTS).ravel()
        np.testing.assert_allclose(without.score_pairs(PAIRS), matrix, atol=1e-6)
        np.testing.assert_allclose(matcher.score_matrix(TEXTS, TEXTS).ravel(), matrix, atol=1e-6)
        # A toy's head may correct next to nothing; its calibration still differs in the last bits.
        assert not np.array_equal(matcher.score_pairs(PAIRS), matrix)
        assert without.threshold == matcher.manifest.calibration.threshold
        assert matcher.manifest.head is not None
        assert matcher.threshold == matcher.manifest.head.calibration.threshold


def test_a_pair_scores_the_same_alone_swapped_and_in_any_batch(matcher: Matcher) -> None:
    together = matcher.score_pairs(PAIRS)
    alone = np.array([matcher.score(a, b) for a, b in PAIRS])
    swapped = matcher.score_pairs([(b, a) for a, b in PAIRS])
    reverse = matcher.score_pairs(PAIRS[::-1], batch_size=3)[::-1]
    limit = 1e-3 if matcher.precision == "fp16" else 1e-6
    for other in (alone, swapped, reverse):
        np.testing.assert_allclose(other, together, atol=limit, rtol=0)


def test_a_pair_scores_the_same_from_any_thread_cache_or_copy(directory: Path, matcher: Matcher) -> None:
    if matcher.precision == "fp16":
        pytest.skip("fp16 promises less on a CPU")
    expected = matcher.score_pairs(PAIRS)
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_allclose(
            list(pool.map(lambda pair: matcher.score(*pair), PAIRS)), expected, atol=1e-6, rtol=0
        )
    with Matcher.load(
        directory, precision=matcher.precision, cache_size=3, threads=1, on_truncate="ignore", device="cpu"
    ) as cached:
        cached.encode(TEXTS)
        for _ in range(2):
            np.testing.assert_allclose([cached.score(a, b) for a, b in PAIRS], expected, atol=1e-6, rtol=0)
    with pickle.loads(pickle.dumps(matcher)) as copy, MicroBatcher(copy) as batcher:  # noqa: S301 - our own bytes
        answers = [batcher.submit_pair(a, b) for a, b in PAIRS]
        np.testing.assert_allclose([answer.result() for answer in answers], expected, atol=1e-6, rtol=0)


def test_rank_returns_the_scores_of_the_head(matcher: Matcher) -> None:
    limit = 1e-3 if matcher.precision == "fp16" else 1e-6
    candidates = matcher.candidates(TEXTS)
    for query in TEXTS[:3]:
        scores = matcher.score_pairs([(query, text) for text in TEXTS])
        for found in (matcher.rank(query, TEXTS, top_k=None), candidates.rank(query, top_k=None)):
            assert sorted(match.index for match in found) == list(range(len(TEXTS)))
            np.testing.assert_allclose([match.score for match in found], scores[[m.index for m in found]], atol=limit)
            assert [match.score for match in found] == sorted((m.score for m in found), reverse=True)
        proposed = matcher.rank(query, TEXTS, top_k=2, rescore=0)
        cosines = matcher.score_matrix([query], TEXTS)[0]
        np.testing.assert_allclose([match.score for match in proposed], np.sort(cosines)[::-1][:2], atol=1e-6)
    with pytest.raises(ConfigError, match="rescore must be an integer of at least 0"):
        matcher.rank("a", TEXTS, rescore=-1)


def test_a_text_longer_than_the_matcher_reads_scores(matcher: Matcher) -> None:
    assert 0 <= matcher.score("card " * 5000, "my card") <= 1


def test_an_older_release_refuses_the_directory(directory: Path) -> None:
    assert json.loads((directory / "manifest.json").read_text())["format_version"] == 3


def change_head(directory: Path, target: Path, change) -> Path:  # type: ignore[no-untyped-def]
    """Copy a matcher and change its head's weights, with a hash that fits."""
    shutil.copytree(directory, target)
    manifest = read_manifest(target)
    assert manifest.head is not None
    change(target / "head.npz")
    head = replace(manifest.head, sha256=sha256_of(target / "head.npz"), bytes=(target / "head.npz").stat().st_size)
    (target / "manifest.json").write_text(replace(manifest, head=head).to_json())
    return target


def test_verify_covers_the_head(directory: Path, tmp_path: Path) -> None:
    options = LoadOptions(device="cpu", precision="int8")
    found = verify(directory, options)
    assert {"self-test scores with head", "sample: texts swapped"} <= {check.what for check in found.checks}
    assert not found.failures

    def other_decisions(path: Path) -> None:
        weights = read_weights(path, dimension=10)
        write_weights(path, replace(weights, decide_2_bias=weights.decide_2_bias + 50))

    changed = verify(change_head(directory, tmp_path / "matcher", other_decisions), options)
    assert [check.what for check in changed.failures] == ["self-test scores with head"]


def test_verify_measures_pairs_with_the_head(directory: Path) -> None:
    pairs = Pairs(tuple(a for a, _ in PAIRS), tuple(b for _, b in PAIRS), np.array([a == b for a, b in PAIRS], np.int8))
    found = verify(directory, LoadOptions(device="cpu", precision="int8"), pairs=pairs)
    variants = {check.variant for check in found.checks if check.what == "pairs: average precision"}
    assert variants == {"int8", "int8 with head"}


def with_nan(path: Path) -> None:
    with np.load(path) as content:
        arrays = dict(content)
    arrays["compare_2"] = np.full_like(arrays["compare_2"], np.nan)
    np.savez(path, **arrays)


def of_another_size(path: Path) -> None:
    weights = read_weights(path, dimension=10)
    write_weights(
        path, replace(weights, importance=np.zeros((1, 11), np.float32), compare_1=np.zeros((8, 42), np.float32))
    )


def pickled(path: Path) -> None:
    with np.load(path) as content:
        arrays = dict(content)
    np.savez(path, **(arrays | {"cosine": np.array([{}], dtype=object)}))


def change_array(path: Path, **arrays: NDArray[Any]) -> None:
    with np.load(path) as content:
        np.savez(path, **(dict(content) | arrays))


def without_a_value(path: Path) -> None:
    change_array(path, number_words=np.array(["two", "three"]), number_values=np.array([[2.0]]))


def with_an_empty_word(path: Path) -> None:
    change_array(path, negators=np.array(["not", ""]))


def with_a_negative_value(path: Path) -> None:
    change_array(path, number_words=np.array(["two"]), number_values=np.array([-2.0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_nan, "compare_2: expected finite numbers"),
        (of_another_size, "dimension 11 instead of 10"),
        (pickled, "allow_pickle"),
        (without_a_value, "number_words: shape"),
        (with_an_empty_word, "negators: expected words that are not empty"),
        (with_a_negative_value, "number_values: expected positive numbers"),
        (lambda path: path.write_bytes(b"nothing"), "not the weights of this matcher's pair head"),
    ],
)
def test_weights_that_do_not_fit_are_refused(directory: Path, tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    changed = change_head(directory, tmp_path / "matcher", change)
    with pytest.raises(MatcherDirectoryError, match=message):
        Matcher.load(changed, precision="fp32", device="cpu")
    Matcher.load(changed, precision="fp32", device="cpu", head=False).close()


def test_weights_with_another_hash_are_refused(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "matcher")
    content = bytearray((tmp_path / "matcher" / "head.npz").read_bytes())
    content[100] ^= 1
    (tmp_path / "matcher" / "head.npz").write_bytes(content)
    with pytest.raises(MatcherDirectoryError, match=r"head\.npz: its SHA-256 differs"):
        Matcher.load(tmp_path / "matcher", precision="fp32", device="cpu")


def test_explanations_add_up_to_the_cosine_and_show_the_heads_alignment(matcher: Matcher) -> None:
    background = matcher.encode(TEXTS).mean(axis=0)
    for a, b in PAIRS[::7]:
        found = matcher.explain(a, b, background=background)
        assert found.baseline + found.contributions.sum() == pytest.approx(found.cosine, abs=1e-6)
        assert found.score == pytest.approx(matcher.score(a, b), abs=1e-3 if matcher.precision == "fp16" else 1e-6)
        alignment = found.alignment
        assert alignment is not None
        assert alignment.a_to_b.shape == alignment.b_to_a.T.shape == found.contributions.shape
        np.testing.assert_allclose(alignment.a_to_b.sum(axis=1) + alignment.alone_a, 1, atol=1e-5)
        np.testing.assert_allclose(alignment.b_to_a.sum(axis=1) + alignment.alone_b, 1, atol=1e-5)
        assert min(alignment.alone_a.min(), alignment.alone_b.min(), alignment.a_to_b.min()) >= -1e-5
        other = matcher.explain(b, a).alignment
        assert other is not None
        np.testing.assert_allclose(other.a_to_b, alignment.b_to_a, atol=1e-3)
        assert {word.text for word in found.unaligned_a} <= {word.text for word in found.words_a}
