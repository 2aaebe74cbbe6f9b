from __future__ import annotations

import copy
import dataclasses
import functools
import logging
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TEXTS, write_tiny_matcher

import flipkd_sdk
from flipkd_sdk.errors import (
    ConfigError,
    InvalidTextError,
    MatcherClosedError,
    TextTooLongError,
)
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.search.match import Match
from flipkd_sdk.runtimes.serving.microbatch import MicroBatcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = TEXTS[-1]


@pytest.fixture(scope="module")
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision="fp32") as opened:
        yield opened


def test_the_package_exports_the_class() -> None:
    assert flipkd_sdk.Matcher is Matcher
    assert flipkd_sdk.Match is Match


def test_a_score_is_the_calibrated_cosine(matcher: Matcher) -> None:
    a, b = matcher.encode([TEXTS[0], TEXTS[1]]).astype(np.float64)
    curve = matcher.manifest.calibration
    expected = 1 / (1 + np.exp(-(curve.slope * (a @ b) + curve.intercept)))
    score = matcher.score(TEXTS[0], TEXTS[1])
    assert isinstance(score, float)
    assert score == pytest.approx(expected, abs=1e-6)
    assert score == matcher.score(TEXTS[1], TEXTS[0])


def test_vectors_are_unit_vectors_in_the_order_given(matcher: Matcher) -> None:
    vectors = matcher.encode([TEXTS[2], TEXTS[0], TEXTS[2]])
    assert (vectors.shape, str(vectors.dtype)) == ((3, 16), "float32")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])


def test_pairs_keep_their_order_and_the_matrix_agrees(matcher: Matcher) -> None:
    pairs = [(a, b) for a in TEXTS[:6] for b in TEXTS]
    scores = matcher.score_pairs(pairs)
    assert (scores.shape, str(scores.dtype)) == ((60,), "float32")
    np.testing.assert_allclose(scores, [matcher.score(a, b) for a, b in pairs], atol=1e-6)
    matrix = matcher.score_matrix(TEXTS[:6], TEXTS)
    assert (matrix.shape, str(matrix.dtype)) == ((6, 10), "float32")
    np.testing.assert_allclose(matrix.ravel(), scores, atol=1e-6)
    # A matcher that scores everything alike would pass all of the above.
    assert np.ptp(scores) > 0.5


def test_a_generator_of_pairs_is_read_once(matcher: Matcher) -> None:
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[2], TEXTS[3])]
    np.testing.assert_array_equal(matcher.score_pairs(pair for pair in pairs), matcher.score_pairs(pairs))
    np.testing.assert_array_equal(
        matcher.score_matrix(iter(TEXTS), (text for text in TEXTS)), matcher.score_matrix(TEXTS, TEXTS)
    )


def test_empty_input_gives_empty_results_of_the_right_shape(matcher: Matcher) -> None:
    for found, shape in [
        (matcher.score_pairs([]), (0,)),
        (matcher.encode([]), (0, 16)),
        (matcher.score_matrix([], []), (0, 0)),
        (matcher.score_matrix(["a", "b"], []), (2, 0)),
        (matcher.score_matrix([], ["a"]), (0, 1)),
    ]:
        assert (found.shape, str(found.dtype)) == (shape, "float32")
    assert matcher.rank("a", []) == []


def test_a_match_reaches_the_threshold(matcher: Matcher) -> None:
    assert matcher.threshold == matcher.manifest.calibration.threshold == 0.5
    for a in TEXTS:
        for b in TEXTS:
            assert matcher.is_match(a, b) is (matcher.score(a, b) >= 0.5)
    assert matcher.is_match(TEXTS[0], TEXTS[0])
    assert not matcher.is_match(TEXTS[0], TEXTS[7])


def test_a_score_at_the_threshold_is_a_match(matcher: Matcher, tmp_path: Path) -> None:
    score = matcher.score(TEXTS[0], TEXTS[1])
    calibration = dataclasses.replace(matcher.manifest.calibration, threshold=score)
    with Matcher.load(write_tiny_matcher(tmp_path / "tiny", calibration=calibration)) as other:
        assert other.score(TEXTS[0], TEXTS[1]) == score
        assert other.is_match(TEXTS[0], TEXTS[1])


@given(
    st.lists(st.sampled_from(TEXTS), max_size=15),
    st.one_of(st.none(), st.integers(1, 20)),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_rank_is_the_sorted_list_of_scores(
    tiny_matcher: Path, candidates: list[str], top_k: int | None, score_cutoff: float | None
) -> None:
    matcher = shared(tiny_matcher)
    scores = matcher.score_pairs((TEXTS[0], candidate) for candidate in candidates)
    everything = sorted(enumerate(candidates), key=lambda item: (-scores[item[0]], item[0]))
    expected = [(i, text) for i, text in everything if score_cutoff is None or scores[i] >= score_cutoff][:top_k]
    found = matcher.rank(TEXTS[0], candidates, top_k=top_k, score_cutoff=score_cutoff)
    assert [(match.index, match.text) for match in found] == expected
    np.testing.assert_allclose([match.score for match in found], [scores[i] for i, _ in expected], atol=1e-6)


_shared: dict[Path, Matcher] = {}


@functools.cache
def scoring(directory: Path) -> Matcher:
    return Matcher.load(directory, precision="fp32", on_truncate="ignore", on_blank="score")


def shared(directory: Path) -> Matcher:
    if directory not in _shared:
        _shared[directory] = Matcher.load(directory, precision="fp32", on_truncate="ignore")
    return _shared[directory]


def test_rank_returns_ten_matches_by_default(matcher: Matcher) -> None:
    candidates = [f"question {i}" for i in range(25)]
    assert len(matcher.rank("question", candidates)) == 10
    assert len(matcher.rank("question", candidates, top_k=None)) == 25
    with pytest.raises(dataclasses.FrozenInstanceError):
        matcher.rank("question", candidates)[0].score = 1.0  # type: ignore[misc]


@given(st.text(), st.text())
def test_any_two_texts_have_a_score(tiny_matcher: Path, a: str, b: str) -> None:
    assert 0 <= shared(tiny_matcher).score(a, b) <= 1


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00", "\ud800", "😀" * 200])
def test_odd_texts_score_finitely(tiny_matcher: Path, text: str) -> None:
    with Matcher.load(tiny_matcher, precision="fp32", on_truncate="ignore", on_blank="score") as matcher:
        assert 0 <= matcher.score(text, TEXTS[0]) <= 1
        assert matcher.score(text, text) == pytest.approx(matcher.score("a", "a"), abs=1e-6)


BLANK = ["", " ", "\n\t\r", "\u3000\u2028", "\x1c"]


@given(st.lists(st.sampled_from([*BLANK, *TEXTS]), max_size=12), st.sampled_from([*BLANK, *TEXTS]))
def test_a_blank_text_scores_zero_in_every_method_and_others_as_the_model(
    tiny_matcher: Path, texts: list[str], query: str
) -> None:
    matcher = shared(tiny_matcher)
    model = scoring(tiny_matcher).score_pairs((query, text) for text in texts)
    expected = np.where([not query.strip() or not text.strip() for text in texts], 0.0, model)
    np.testing.assert_array_equal(matcher.score_pairs((query, text) for text in texts), expected.astype(np.float32))
    np.testing.assert_allclose(matcher.score_matrix([query], texts)[0], expected, atol=1e-6)
    np.testing.assert_allclose(matcher.score_matrix(texts, [query])[:, 0], expected, atol=1e-6)
    with MicroBatcher(matcher) as batcher:
        alone = [batcher.submit_pair(query, text) for text in texts]
        np.testing.assert_allclose([future.result(60) for future in alone], expected, atol=1e-6)
        assert [batcher.is_match(query, text) for text in texts] == [bool(score >= 0.5) for score in expected]
        candidates = matcher.candidates(texts)
        for found in (
            matcher.rank(query, texts, top_k=None),
            candidates.rank(query, top_k=None),
            batcher.rank(query, candidates, top_k=None),
            batcher.rank(query, texts, top_k=None),
        ):
            scores = {match.index: match.score for match in found}
            np.testing.assert_allclose([scores[i] for i in range(len(texts))], expected, atol=1e-6)


def test_a_blank_pair_has_the_score_of_the_model_on_request(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher, on_blank="score") as matcher:
        assert matcher.score("", "") > 0.9
        assert matcher.is_match("", "")
        assert matcher.rank("", [""])[0].score > 0.9
        (copied,) = pickle.loads(pickle.dumps([matcher]))  # noqa: S301
        assert copied.score("", "") == matcher.score("", "")
        assert matcher.blank_texts == 4


def test_blank_texts_are_counted_once_per_call(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher, cache_size=10) as matcher:
        matcher.score("a", "b")
        assert matcher.blank_texts == 0
        matcher.score_pairs([("", "a"), ("", "b"), (" ", "a")])
        assert matcher.blank_texts == 2
        matcher.candidates(["", "a"]).rank(" ")
        assert matcher.blank_texts == 4


INVALID: list[tuple[str, tuple[Any, ...], str]] = [
    ("score", (None, "a"), "first text: expected a str, found None"),
    ("is_match", ("a", b"a"), "second text: expected a str, found bytes"),
    ("score_pairs", ([("a", "b"), ("a", float("nan"))],), "pair 1, second text: expected a str, found NaN"),
    ("score_pairs", (["ab"],), "pair 0: expected two texts, found str"),
    ("score_pairs", ("ab",), "pairs: expected an iterable, found str"),
    ("score_matrix", (["a"], ["b", None]), "b_texts, text 1: expected a str, found None"),
    ("score_matrix", ("a", ["b"]), "a_texts: expected an iterable, found str"),
    ("rank", (None, ["a"]), "query: expected a str, found None"),
    ("rank", ("a", ["a", 3]), "candidate 1: expected a str, found int"),
    ("rank", ("a", "b"), "candidates: expected an iterable, found str"),
    ("encode", (["a", None],), "text 1: expected a str, found None"),
    ("encode", ("a",), "texts: expected an iterable, found str"),
]


@pytest.mark.parametrize(("method", "arguments", "message"), INVALID)
def test_an_invalid_text_is_named(matcher: Matcher, method: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidTextError, match=f"^{message}"):
        getattr(matcher, method)(*arguments)


def test_numbers_out_of_range_are_errors(matcher: Matcher) -> None:
    with pytest.raises(ConfigError, match="batch_size must be an integer of at least 1, or None for no limit; it is 0"):
        matcher.score_pairs([], batch_size=0)
    with pytest.raises(ConfigError, match="top_k must be an integer of at least 1, or None for all; it is 0"):
        matcher.rank("a", ["b"], top_k=0)


def test_a_cut_text_is_warned_about_once_per_call(tiny_matcher: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Matcher.load(tiny_matcher) as matcher, caplog.at_level(logging.WARNING, logger="flipkd_sdk"):
        matcher.score_pairs([(LONG, "a"), (LONG, "b"), (LONG + "!", "a"), ("a", "b")])
    (record,) = caplog.records
    assert record.name == "flipkd_sdk"
    assert record.getMessage().startswith("2 of 4 distinct texts are longer than the 32 tokens")


def test_a_cut_text_can_be_ignored_or_refused(tiny_matcher: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Matcher.load(tiny_matcher, on_truncate="ignore") as matcher:
        assert 0 <= matcher.score(LONG, "a") <= 1
        assert matcher.score(LONG, "a") == matcher.score(LONG + " and more of it", "a")
    assert caplog.records == []
    with Matcher.load(tiny_matcher, on_truncate="error") as matcher:
        with pytest.raises(TextTooLongError, match=r"^pair 1, second text: longer than the 32 tokens"):
            matcher.score_pairs([("a", "b"), ("a", LONG)])
        with pytest.raises(TextTooLongError, match=r"^candidate 0: "):
            matcher.rank("a", [LONG])
        assert 0 <= matcher.score("a", "b") <= 1


def test_cut_texts_are_counted_over_all_calls(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher, on_truncate="ignore", cache_size=10) as matcher:
        assert matcher.truncated_texts == 0
        matcher.score_pairs([(LONG, "a"), (LONG, "b"), (LONG + "!", "a")])
        assert matcher.truncated_texts == 2
        matcher.score(LONG, "c")
        assert matcher.truncated_texts == 3
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: matcher.score(LONG + str(i), "a"), range(50)))
        assert matcher.truncated_texts == 53


def test_no_cut_text_is_lost_between_threads(tiny_matcher: Path) -> None:
    class SlowSum(int):
        def __add__(self, other: int) -> SlowSum:
            time.sleep(0.001)
            return SlowSum(int(self) + other)

    with Matcher.load(tiny_matcher, on_truncate="ignore") as matcher, ThreadPoolExecutor(8) as pool:
        matcher.scorer.truncated_texts = SlowSum()
        list(pool.map(lambda i: matcher.score(LONG + str(i), "a"), range(40)))
        assert matcher.truncated_texts == 40


def test_inputs_are_not_changed(matcher: Matcher) -> None:
    pairs = [[TEXTS[0], TEXTS[1]], [TEXTS[2], TEXTS[0]]]
    texts = list(TEXTS)
    before = copy.deepcopy((pairs, texts))
    matcher.score_pairs(pairs)  # type: ignore[arg-type]
    matcher.score_matrix(texts, texts)
    matcher.rank(texts[0], texts)
    matcher.encode(texts)
    candidates = matcher.candidates(texts)
    candidates.append(texts)
    candidates.remove([0])
    candidates.append(["new"])
    assert (pairs, texts) == before


def test_changing_a_result_does_not_change_the_cache(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher, cache_size=10) as matcher:
        first = matcher.encode(["a", "a"])
        kept = first.copy()
        first[:] = 0
        np.testing.assert_array_equal(matcher.encode(["a", "a"]), kept)


def test_a_closed_matcher_raises_in_every_method(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher) as matcher:
        assert "device='cpu', precision='int8'" in repr(matcher)
    matcher.close()
    assert repr(matcher).endswith("closed>")
    for use in (
        lambda: matcher.score("a", "b"),
        lambda: matcher.score_pairs([]),
        lambda: matcher.score_matrix([], []),
        lambda: matcher.rank("a", []),
        lambda: matcher.encode([]),
        lambda: matcher.device,
        lambda: copy.copy(matcher),
    ):
        with pytest.raises(MatcherClosedError, match=r"Matcher\.load"):
            use()
    assert matcher.threshold == 0.5
