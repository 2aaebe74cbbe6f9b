from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from flipkd_sdk import Matcher
from flipkd_sdk.errors import ConfigError, InvalidTextError
from flipkd_sdk.runtimes.linkage.dedupe import dedupe
from flipkd_sdk.runtimes.linkage.frames import dedupe_frame, link_frames
from flipkd_sdk.runtimes.linkage.link import link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

A = {"id": [7, 8, 9], "text": ["reset my PIN", "a lost card", ""]}
B = {"no": ["x", "y", "z"], "faq": ["a lost card!", "reset my PIN", "reset my PIN"]}


@pytest.fixture
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision="fp32") as opened:
        yield opened


@pytest.fixture(params=["pandas", "polars"])
def frame(request: pytest.FixtureRequest) -> Callable[[dict[str, list[Any]]], Any]:
    if request.param == "pandas":
        # An index that is no position.
        return lambda columns: pd.DataFrame(columns, index=[5, 5, 6])
    return pytest.importorskip("polars", reason="polars is not installed: pip install polars").DataFrame


def columns(frame: Any) -> dict[str, list[Any]]:
    return {name: frame[name].to_list() for name in frame.columns}


def test_joined_rows_have_the_columns_of_both_frames(matcher: Matcher, frame) -> None:
    a, b = frame(A), frame(B)
    joined = columns(link_frames(matcher, a, b, b_column="faq", threshold=0.01))
    found = link(matcher, A["text"], B["faq"], threshold=0.01)
    assert joined["id"] == [A["id"][row] for row in found.a]
    assert joined["b_no"] == [B["no"][row] for row in found.b]
    assert joined["score"] == found.score.tolist()
    assert list(joined) == ["id", "text", "b_no", "b_faq", "score"]
    assert columns(a) == A, "the frames stay as they are"


def test_grouped_rows_keep_their_order(matcher: Matcher, frame) -> None:
    grouped = columns(dedupe_frame(matcher, frame(B), column="faq", threshold=0.9))
    assert grouped["group"] == dedupe(matcher, B["faq"], threshold=0.9).canonical.tolist()
    assert {name: grouped[name] for name in B} == B


def test_no_match_makes_an_empty_frame(matcher: Matcher, frame) -> None:
    joined = link_frames(matcher, frame(A), frame(B), b_column="faq", threshold=1.0)
    assert len(joined) == 0
    assert list(joined.columns) == ["id", "text", "b_no", "b_faq", "score"]


def test_mistakes_name_the_column(matcher: Matcher, frame) -> None:
    with pytest.raises(ConfigError, match="b has no column 'text'; it has: 'no', 'faq'"):
        link_frames(matcher, frame(A), frame(B))
    with pytest.raises(ConfigError, match="two columns are named 'id'"):
        link_frames(matcher, frame(A), frame(B), b_column="faq", score_column="id")
    with pytest.raises(ConfigError, match="two columns are named 'no'"):
        dedupe_frame(matcher, frame(B), column="faq", group_column="no")
    with pytest.raises(InvalidTextError, match="text 1: expected a str, found "):
        dedupe_frame(matcher, frame({**B, "faq": ["one", None, "two"]}), column="faq", threshold=0.5)
    with pytest.raises(ConfigError, match="frame must be a DataFrame of pandas or polars"):
        dedupe_frame(matcher, B, column="faq")  # type: ignore[type-var]
