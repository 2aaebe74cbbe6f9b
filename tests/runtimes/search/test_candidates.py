from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import CALIBRATION, TEXTS

import flipkd_sdk
from flipkd_sdk.errors import ConfigError, InvalidTextError, MatcherClosedError
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.search.candidates import CandidateSet
from flipkd_sdk.runtimes.search.match import Match

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts


@pytest.fixture(scope="module")
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, on_truncate="ignore") as opened:
        yield opened


def assert_same(found: list[Match], expected: list[Match]) -> None:
    assert [(match.index, match.text) for match in found] == [(match.index, match.text) for match in expected]
    scores = [match.score for match in expected]
    np.testing.assert_allclose([match.score for match in found], scores, atol=1e-6, rtol=0)


def test_the_package_exports_the_class() -> None:
    assert flipkd_sdk.CandidateSet is CandidateSet


@given(
    texts=st.lists(st.sampled_from(TEXTS), max_size=12),
    query=st.sampled_from(TEXTS),
    top_k=st.one_of(st.none(), st.integers(1, 5)),
    score_cutoff=st.one_of(st.none(), st.floats(0, 1)),
)
def test_a_set_ranks_as_the_matcher_does(
    matcher: Matcher, texts: list[str], query: str, top_k: int | None, score_cutoff: float | None
) -> None:
    expected = matcher.rank(query, texts, top_k=top_k, score_cutoff=score_cutoff)
    candidates = matcher.candidates(texts)
    assert len(candidates) == len(texts)
    assert candidates.texts == texts
    assert_same(candidates.rank(query, top_k=top_k, score_cutoff=score_cutoff), expected)
    for match in expected:
        assert match.score == pytest.approx(matcher.score(query, texts[match.index]), abs=1e-6)


def test_many_queries_rank_as_single_ones(matcher: Matcher) -> None:
    candidates = matcher.candidates(TEXTS)
    expected = [candidates.rank(query, top_k=3) for query in TEXTS]
    together = list(candidates.rank_many(iter(TEXTS), top_k=3))
    encoded = list(candidates.rank_vectors(matcher.encode(TEXTS), texts=TEXTS, top_k=3))
    for one, many, vector in zip(expected, together, encoded, strict=True):
        assert_same(many, one)
        assert_same(vector, one)
    assert list(candidates.rank_many([])) == []


def test_query_vectors_without_texts_have_the_score_of_the_model(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher, on_blank="score") as scoring, Matcher.load(tiny_matcher) as matcher:
        candidates = matcher.candidates(["a", "b", " "])
        (found,) = candidates.rank_vectors(matcher.encode([""]))
        assert [match.text for match in found][2:] == [" "]
        np.testing.assert_allclose(
            sorted(match.score for match in found[:2]), sorted(scoring.score_pairs([("", "a"), ("", "b")])), atol=1e-6
        )


def test_a_set_needs_no_more_than_an_encoder() -> None:
    class Letters:
        """An encoder of one number: 1 for an "a", -1 for any other text."""

        identity, dimension, calibration, has_head = "letters", 1, CALIBRATION, False

        def encode_distinct(self, distinct: DistinctTexts) -> NDArray[np.float32]:
            return np.array([[1.0] if text == "a" else [-1.0] for text in distinct.texts], dtype=np.float32)

        def scores_of(self, query: str, candidates: Sequence[str]) -> None:
            raise NotImplementedError

        def never_match(self, texts: Sequence[str]) -> NDArray[np.bool_]:
            return np.array([text == "never" for text in texts], dtype=np.bool_)

    candidates = CandidateSet(Letters(), ["b", "a"], np.array([[-1.0], [1.0]], dtype=np.float32))
    candidates.append(["never", "a"])
    assert [match.index for match in candidates.rank("a")] == [1, 3, 0, 2]
    assert [match.score for match in candidates.rank("never")] == [0.0] * 4


STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from(TEXTS), max_size=5).map(lambda texts: ("append", texts)),
        st.sets(st.integers(0, 11), max_size=4).map(lambda places: ("remove", places)),
    ),
    max_size=8,
)


@given(st.lists(st.sampled_from(TEXTS), max_size=4), STEPS)
def test_append_and_remove_change_a_set_like_a_list(
    matcher: Matcher, texts: list[str], steps: list[tuple[str, list[str] | set[int]]]
) -> None:
    candidates = matcher.candidates(texts)
    model = list(texts)
    for step, argument in steps:
        if step == "append":
            candidates.append(argument)  # type: ignore[arg-type]
            model += argument  # type: ignore[arg-type]
        elif any(place >= len(model) for place in argument):  # type: ignore[operator]
            with pytest.raises(ConfigError, match=f"there is no candidate .* there are {len(model)}"):
                candidates.remove(argument)  # type: ignore[arg-type]
        else:
            candidates.remove(argument)  # type: ignore[arg-type]
            model = [text for place, text in enumerate(model) if place not in argument]
        assert candidates.texts == model
        np.testing.assert_allclose(candidates.vectors, matcher.encode(model), atol=1e-6)
    found = {match.index: match.text for match in candidates.rank(TEXTS[0], top_k=None)}
    assert found == dict(enumerate(model))


def test_a_set_stays_usable_if_append_runs_out_of_memory(matcher: Matcher) -> None:
    class Full(list[str]):
        """A list that memory runs out for half-way; once."""

        full = True

        def extend(self, texts: Iterable[str]) -> None:
            for text in texts:
                self.append(text)
                self._fail()

        def __setitem__(self, place: Any, texts: Any) -> None:
            super().__setitem__(place, list(texts)[: 1 if Full.full else None])
            self._fail()

        def _fail(self) -> None:
            if Full.full:
                Full.full = False
                raise MemoryError

    candidates = CandidateSet(matcher.scorer, Full(["a", "b"]), matcher.encode(["a", "b"]))
    with pytest.raises(MemoryError):
        candidates.append(["c", "d"])
    assert candidates.texts == ["a", "b"]
    candidates.append(["e", "f"])
    assert candidates.texts == ["a", "b", "e", "f"]
    np.testing.assert_allclose(candidates.vectors, matcher.encode(["a", "b", "e", "f"]), atol=1e-6)
    assert candidates.rank("e", top_k=1)[0].text == "e"


def test_remove_refuses_negative_indices(matcher: Matcher) -> None:
    with pytest.raises(ConfigError, match="no candidate -1"):
        matcher.candidates(["a"]).remove([-1])


def test_the_vectors_property_is_a_read_only_view(matcher: Matcher) -> None:
    candidates = matcher.candidates(TEXTS)
    vectors = candidates.vectors
    assert (vectors.shape, str(vectors.dtype)) == ((len(TEXTS), 16), "float32")
    assert np.shares_memory(vectors, candidates.vectors)
    with pytest.raises(ValueError, match="read-only"):
        vectors[0] = 0


def test_a_search_uses_the_candidates_of_its_beginning(matcher: Matcher) -> None:
    candidates = matcher.candidates(TEXTS)
    expected = candidates.rank(TEXTS[0], top_k=None)
    ranking = candidates.rank_vectors(matcher.encode([TEXTS[0]]), top_k=None)
    candidates.append(["new"])
    candidates.remove([0, 3])
    candidates.append(["newer"])
    assert next(ranking) == expected


def test_threads_can_search_while_others_append(matcher: Matcher) -> None:
    candidates = matcher.candidates(TEXTS)
    query = TEXTS[0]
    best = candidates.rank(query, top_k=1)
    failures: list[object] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            found = candidates.rank(query, top_k=None)
            if found[:1] != best or [match.text for match in sorted(found, key=lambda m: m.index)][:10] != list(TEXTS):
                failures.append(found)

    searchers = [threading.Thread(target=search) for _ in range(3)]
    writers = [
        threading.Thread(target=lambda n=n: [candidates.append([f"question {n} {i}"]) for i in range(30)])
        for n in range(3)
    ]
    for thread in [*searchers, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in searchers:
        thread.join()
    assert failures == []
    assert len(candidates) == len(TEXTS) + 90
    np.testing.assert_allclose(candidates.vectors, matcher.encode(candidates.texts), atol=1e-6)


def test_errors_name_the_argument(matcher: Matcher) -> None:
    candidates = matcher.candidates(["a"])
    with pytest.raises(InvalidTextError, match=r"^query: expected a str, found None"):
        candidates.rank(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidTextError, match=r"^query 1: expected a str, found int"):
        candidates.rank_many(["a", 3])  # type: ignore[list-item]
    with pytest.raises(InvalidTextError, match=r"^texts: expected an iterable, found str"):
        candidates.append("a question")
    with pytest.raises(InvalidTextError, match=r"^text 1: expected a str, found None"):
        matcher.candidates(["a", None])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="top_k"):
        candidates.rank("a", top_k=0)
    with pytest.raises(ConfigError, match=r"shape \(16,\); expected \(number of queries, 16\)"):
        candidates.rank_vectors(np.zeros(16, dtype=np.float32))
    assert candidates.texts == ["a"]


def test_ranking_with_a_closed_matcher_is_an_error(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher) as matcher:
        candidates = matcher.candidates(["a"])
        (match,) = candidates.rank("a")
        assert isinstance(match, Match)
    with pytest.raises(MatcherClosedError):
        candidates.rank("a")
    assert "CandidateSet of 1 texts" in repr(candidates)
