"""Tables that make a careless join or grouping quadratic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from flipkd_sdk import Matcher
from flipkd_sdk.runtimes.linkage.approximate import approximate_pairs
from flipkd_sdk.runtimes.linkage.dedupe import dedupe
from flipkd_sdk.runtimes.linkage.link import link
from flipkd_sdk.runtimes.linkage.near_pairs import near_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANY = 200_000
TEXT = "reset my PIN"


@pytest.fixture
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision="fp32") as opened:
        yield opened


def test_equal_rows_are_one_group(matcher: Matcher) -> None:
    groups = dedupe(matcher, [TEXT] * MANY, threshold=0.9)
    assert not groups.canonical.any()
    assert (groups.count, groups.sizes[0]) == (1, MANY)


def test_equal_rows_on_both_sides_match_without_their_product(matcher: Matcher) -> None:
    best = link(matcher, [TEXT] * MANY, [TEXT] * MANY, threshold=0.9)
    assert len(best.a) == MANY
    assert not best.b.any()
    pairs = link(matcher, [TEXT] * MANY, [TEXT] * (MANY // 2), threshold=0.9, one_to_one=True)
    assert len(np.unique(pairs.a)) == len(np.unique(pairs.b)) == len(pairs.a) == MANY // 2


def test_equal_vectors_hide_no_pair_from_the_approximate_search() -> None:
    pytest.importorskip("usearch", reason="usearch is not installed: pip install 'flipkd-sdk[ann]'")
    random = np.random.default_rng(0)
    others = random.standard_normal((2000, 24)).astype(np.float32)
    twins = others[:500] + 0.05 * random.standard_normal((500, 24)).astype(np.float32)
    vectors = np.concatenate([others[:1000], np.repeat(others[-1:], 1200, axis=0), others[1000:], twins])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact, found = (
        set(zip(*(side.tolist() for side in pairs(vectors, least=0.9, most=10)[:2]), strict=True))
        for pairs in (near_pairs, approximate_pairs)
    )
    apart = {pair for pair in exact if not 1000 <= pair[0] < 2200}
    assert len(apart) >= 500
    assert len(apart & found) >= 0.99 * len(apart)
    assert len({row for pair in found for row in pair if 1000 <= row < 2200}) >= 0.99 * 1200


def test_two_million_candidates_of_one_row_are_cut_to_the_nearest() -> None:
    random = np.random.default_rng(0)
    many = random.standard_normal((2_000_000, 6), dtype=np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    found = near_pairs(many[:1], many, least=-1.0, most=5)
    assert found.b.tolist() == np.argsort(-(many @ many[0]), kind="stable")[:5].tolist()
