"""Tables that make a careless join or grouping quadratic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from flipkd_sdk import Matcher
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


def test_two_million_candidates_of_one_row_are_cut_to_the_nearest() -> None:
    random = np.random.default_rng(0)
    many = random.standard_normal((2_000_000, 6), dtype=np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    found = near_pairs(many[:1], many, least=-1.0, most=5)
    assert found.b.tolist() == np.argsort(-(many @ many[0]), kind="stable")[:5].tolist()
