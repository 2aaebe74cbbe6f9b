from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flipkd_sdk import Matcher
from flipkd_sdk.evaluation.cosines import row_cosines
from flipkd_sdk.runtimes.linkage import approximate, proposals
from flipkd_sdk.runtimes.linkage.approximate import approximate_pairs
from flipkd_sdk.runtimes.linkage.decide import LocalDecider
from flipkd_sdk.runtimes.linkage.dedupe import dedupe
from flipkd_sdk.runtimes.linkage.link import link
from flipkd_sdk.runtimes.linkage.near_pairs import Pairs, near_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_usearch = pytest.mark.skipif(
    importlib.util.find_spec("usearch") is None, reason="usearch is not installed: pip install 'flipkd-sdk[ann]'"
)
TEXTS = ["reset my PIN", "a lost card", "", "Reset my PIN", "fee abroad", "reset my card PIN", "Top up", "A lost card"]


@pytest.fixture
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision="fp32") as opened:
        yield opened


@pytest.fixture
def no_usearch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals.importlib.util, "find_spec", lambda name: None)


def clusters(rows: int, dimension: int, spread: float, seed: int) -> np.ndarray:
    """Unit vectors around centres, of which some have many vectors and most have few."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(1, rows // 8), dimension))
    chosen = (len(centres) * random.random(rows) ** 2).astype(int)
    vectors = centres[chosen] + spread * random.standard_normal((rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def as_set(pairs: Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))


@needs_usearch
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(2, 800),
    dimension=st.sampled_from([16, 48, 96]),
    spread=st.sampled_from([0.1, 0.4, 1.0]),
    least=st.sampled_from([0.3, 0.7, 0.9]),
    most=st.integers(1, 12),
    within=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_nearly_all_pairs_of_the_exact_search_are_found_and_only_true_ones(
    rows: int, dimension: int, spread: float, least: float, most: int, within: bool, seed: int
) -> None:
    left = clusters(rows, dimension, spread, seed)
    right = None if within else clusters(rows // 2 + 1, dimension, spread, seed)
    exact = near_pairs(left, right, least=least, most=most)
    found = approximate_pairs(left, right, least=least, most=most)
    assert len(as_set(exact) & as_set(found)) >= 0.99 * len(as_set(exact)) - 1
    assert len(found.a) == len(as_set(found))
    assert np.array_equal(found.cosine, row_cosines(left, found.a, left if right is None else right, found.b))
    assert (found.cosine >= np.float32(least)).all()
    assert not within or (found.a < found.b).all()
    order = np.lexsort((found.b, -found.cosine, found.a))
    assert np.array_equal(order, np.arange(len(order)))
    assert within or np.bincount(found.a, minlength=1).max() <= most


@needs_usearch
def test_pairs_are_the_same_on_every_run_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "_CHUNK", 300)
    vectors = clusters(1201, 48, 0.4, 0)
    found = []
    for threads in (1, 4, 4):
        monkeypatch.setattr(approximate, "available_threads", lambda threads=threads: threads)
        found.append(approximate_pairs(vectors, least=0.5, most=8))
    for other in found[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(found[0], other, strict=True))


@needs_usearch
@pytest.mark.parametrize("rows", [0, 1])
def test_no_pair_needs_two_vectors(rows: int) -> None:
    vectors = clusters(5, 16, 0.4, 0)
    assert len(approximate_pairs(vectors[:rows], least=-1.0, most=3).a) == 0
    assert len(approximate_pairs(vectors[:0], vectors, least=-1.0, most=3).a) == 0
    assert len(approximate_pairs(vectors, vectors[:0], least=-1.0, most=3).a) == 0


@needs_usearch
def test_progress_counts_both_steps_and_can_stop_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "_CHUNK", 30)
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= 140:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        approximate_pairs(clusters(100, 16, 0.4, 0), least=0.0, most=3, progress=progress)
    assert seen == [(30, 200), (60, 200), (90, 200), (100, 200), (130, 200), (160, 200)]


@needs_usearch
def test_few_texts_have_the_same_links_and_groups(matcher: Matcher) -> None:
    groups = [dedupe(matcher, TEXTS, threshold=0.5, search=search) for search in ("exact", "ann")]
    assert groups[0].canonical.tolist() == groups[1].canonical.tolist()
    links = [link(matcher, TEXTS, TEXTS[::-1], threshold=0.1, top_k=3, search=search) for search in ("exact", "ann")]
    assert all(np.array_equal(one, two) for one, two in zip(links[0], links[1], strict=True))


@needs_usearch
@pytest.mark.parametrize(("size", "used"), [(7, True), (8, False)])
def test_auto_is_approximate_from_a_fixed_size_on(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch, size: int, used: bool
) -> None:
    calls = []
    monkeypatch.setattr(proposals, "ANN_TEXTS", size)
    monkeypatch.setattr(proposals, "approximate_pairs", lambda *a, **k: calls.append(len(a[0])) or near_pairs(*a, **k))
    dedupe(matcher, TEXTS, threshold=0.5)
    assert calls == ([7] if used else []), "a blank text is not searched"
    calls.clear()
    link(matcher, TEXTS, TEXTS[:-1], threshold=0.5)
    assert calls == [], "the shorter table decides"
    dedupe(matcher, TEXTS, threshold=0.5, search="exact")
    assert calls == []


def test_without_the_package_auto_is_exact_and_says_so_once_it_matters(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch, no_usearch: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "flipkd_sdk"):
        expected = dedupe(matcher, TEXTS, threshold=0.5).canonical.tolist()
        assert caplog.text == ""
        monkeypatch.setattr(proposals, "ANN_TEXTS", 7)
        assert dedupe(matcher, TEXTS, threshold=0.5).canonical.tolist() == expected
    assert caplog.messages == [
        "7 distinct texts are compared exactly, which takes long; for an approximate search: pip install "
        "'flipkd-sdk[ann]'"
    ]


def test_ann_without_the_package_stops_before_anything_is_encoded(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch, no_usearch: None
) -> None:
    monkeypatch.setattr(LocalDecider, "encode", lambda *_: pytest.fail("texts were encoded"))
    for call in (lambda: dedupe(matcher, TEXTS, search="ann"), lambda: link(matcher, TEXTS, TEXTS, search="ann")):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'flipkd-sdk\[ann\]'"):
            call()
