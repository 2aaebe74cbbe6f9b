"""Cues of the pair head: numbers are compared as numbers, and form is told from content."""

import pytest

from flipkd_sdk.pair_head.cues import cues_of, pair_cues


@pytest.mark.parametrize(
    ("a", "b", "cues"),
    [
        ("pay 100 EUR", "pay 500 EUR", [0, 1, 0, 0]),
        ("pay 1,000 EUR", "pay 1000 EUR", [1, 0, 0, 1]),
        ("pay 1.50", "pay 1.5 now", [1, 0, 0, 0]),
        ("pay 10.50", "pay 1050", [0, 1, 0, 0]),
        ("pay", "pay 5", [0, 0, 1, 0]),
        ("from 1 to 2", "from 2", [1, 0, 1, 0]),
        ("My card!", "my card", [0, 0, 0, 1]),
        ("my card", "my cards", [0, 0, 0, 0]),
        ("５００ 元", "500元", [1, 0, 0, 1]),
        ("", "?", [0, 0, 0, 1]),
    ],
)
def test_cues_of_a_pair_in_either_order(a: str, b: str, cues: list[int]) -> None:
    for one, other in ((a, b), (b, a)):
        assert pair_cues([cues_of(one)], [cues_of(other)])[0].tolist() == cues
