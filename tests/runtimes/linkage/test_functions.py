from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny_head import write_headed_matcher

from flipkd_sdk import Matcher
from flipkd_sdk.errors import ConfigError, InvalidTextError
from flipkd_sdk.runtimes.linkage import decide
from flipkd_sdk.runtimes.linkage.dedupe import dedupe
from flipkd_sdk.runtimes.linkage.link import link

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

A = ["reset my PIN", "a lost card", "", "reset my PIN", "fee abroad"]
B = ["How do I reset my card PIN?", "reset my PIN", "A lost card", "   ", "Top up", "reset my PIN"]


@pytest.fixture
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision="fp32") as opened:
        yield opened


@pytest.fixture
def headed(tmp_path: Path) -> Iterator[Matcher]:
    with Matcher.load(write_headed_matcher(tmp_path / "headed")) as opened:
        yield opened


def test_links_are_the_pairs_that_score_finds(matcher: Matcher) -> None:
    scores = np.array([[matcher.score(a, b) for b in B] for a in A])
    threshold = float(np.sort(scores.ravel())[-9])
    found = link(matcher, A, B, threshold=threshold, top_k=len(B))
    pairs = set(zip(found.a.tolist(), found.b.tolist(), strict=True))
    assert pairs == {tuple(map(int, pair)) for pair in np.argwhere(scores >= threshold)}
    assert found.score == pytest.approx(scores[found.a, found.b], abs=1e-6)


def test_each_row_has_its_best_matches_first(matcher: Matcher) -> None:
    best = link(matcher, A, B, threshold=0.01)
    assert best.a.tolist() == [0, 1, 3, 4], "a blank text matches nothing"
    scores = np.array([[matcher.score(a, b) for b in B] for a in A])
    assert best.score == pytest.approx(scores[best.a].max(axis=1), abs=1e-6)
    assert best.b[0] == 1, "of equal rows the first"
    two = link(matcher, A, B, threshold=0.01, top_k=2)
    assert two.a.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    assert two.b[:2].tolist() == [1, 5]


def test_in_one_to_one_links_no_row_is_twice(matcher: Matcher) -> None:
    found = link(matcher, A, B, threshold=0.01, one_to_one=True)
    assert len(set(found.a.tolist())) == len(found.a) == len(set(found.b.tolist())) == 4
    assert {(0, 1), (3, 5)} <= set(zip(found.a.tolist(), found.b.tolist(), strict=True))


@pytest.mark.parametrize(("a", "b"), [([], B), (A, []), ([], []), ([""], [""])])
def test_empty_sides_have_no_links(matcher: Matcher, a: list[str], b: list[str]) -> None:
    found = link(matcher, a, b, threshold=0.0)
    assert len(found.a) == len(found.b) == len(found.score) == 0


def test_groups_hold_equal_texts_together_and_blank_ones_apart(matcher: Matcher) -> None:
    texts = ["Top up", "", "reset my PIN", "Top up", "   ", "reset my PIN"]
    groups = dedupe(matcher, texts, threshold=0.9999)
    assert groups.canonical.tolist() == [0, 1, 2, 0, 4, 2]
    assert groups.score.tolist() == [1.0] * 6
    assert (groups.count, groups.sizes.tolist()) == (4, [2, 1, 2, 2, 1, 2])


@pytest.mark.parametrize("linkage", ["average", "complete", "components"])
def test_the_score_of_a_row_is_that_of_the_pair(matcher: Matcher, linkage: str) -> None:
    texts = [*A, *B]
    groups = dedupe(matcher, texts, threshold=0.6, linkage=linkage)
    assert groups.count < len(set(texts))
    for row, (first, score) in enumerate(zip(groups.canonical.tolist(), groups.score.tolist(), strict=True)):
        assert groups.canonical[first] == first
        assert score == pytest.approx(1.0 if texts[row] == texts[first] else matcher.score(texts[row], texts[first]))


@pytest.mark.parametrize("texts", [[], ["one"], ["one", "one"], [""]])
def test_few_rows_are_groups_too(matcher: Matcher, texts: list[str]) -> None:
    groups = dedupe(matcher, texts, threshold=0.5)
    assert groups.canonical.tolist() == [0] * len(texts)
    assert groups.count == min(1, len(texts))


def test_without_a_search_threshold_that_of_pairs_is_used_with_a_warning(
    matcher: Matcher, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "flipkd_sdk"):
        assert dedupe(matcher, A, linkage="average").threshold == matcher.threshold
    assert "no search threshold" in caplog.text


def test_every_two_texts_of_a_group_match_by_default(matcher: Matcher, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "flipkd_sdk"):
        groups = dedupe(matcher, A)
    assert (groups.threshold, caplog.text) == (matcher.threshold, "")
    for canonical in set(groups.canonical.tolist()):
        members = [A[row] for row in np.flatnonzero(groups.canonical == canonical)]
        pairs = [(one, other) for one in members for other in members if one != other]
        assert all(matcher.score(*pair) >= groups.threshold for pair in pairs)


@pytest.mark.parametrize("room", [1 << 20, 0])
def test_with_a_head_texts_are_encoded_once_if_their_tokens_fit_and_scores_are_the_same(
    headed: Matcher, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(decide, "_TOKEN_BYTES", room)
    monkeypatch.setattr(decide, "_PART_TEXTS", 3)
    texts = [f"{verb} my {thing}" for verb in ("reset", "lost", "top up") for thing in ("PIN", "card", "fee")]
    encoded: list[int] = []
    session = headed.scorer.opened().encoder.session
    for name in ("run", "run_with_tokens"):
        original = getattr(session, name)
        monkeypatch.setattr(session, name, lambda ids, mask, run=original: encoded.append(len(ids)) or run(ids, mask))
    groups = dedupe(headed, texts, threshold=0.04)
    assert groups.count < len(texts)
    assert (sum(encoded) == len(texts)) == (room > 0)
    monkeypatch.undo()
    for row, (first, score) in enumerate(zip(groups.canonical.tolist(), groups.score.tolist(), strict=True)):
        assert row == first or score == pytest.approx(headed.score(texts[row], texts[first]), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": float("nan")}, "threshold must be a number"),
        ({"threshold": -0.1}, "threshold must be a number"),
        ({"linkage": "ward"}, "linkage must be one of average, complete, components; it is 'ward'"),
        ({"neighbours": 0}, "neighbours must be an integer of at least 1"),
        ({"search": "hnsw"}, "search must be one of exact, ann, auto; it is 'hnsw'"),
    ],
)
def test_options_are_checked(matcher: Matcher, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dedupe(matcher, A, **{"threshold": 0.5, **options})  # type: ignore[arg-type]


def test_texts_are_checked_on_either_side(matcher: Matcher) -> None:
    with pytest.raises(InvalidTextError, match="b_texts, text 1: expected a str, found None"):
        link(matcher, A, ["one", None])  # type: ignore[list-item]
    with pytest.raises(InvalidTextError, match="texts: expected an iterable, found str"):
        dedupe(matcher, "one")
