from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from tiny_models import tiny_config

from flipkd_sdk.pairs import Pairs
from flipkd_sdk.training.config.schema import MiningConfig
from flipkd_sdk.training.data.datasets import Corpus
from flipkd_sdk.training.data.hard_negatives import join, mine_negatives
from flipkd_sdk.training.data.tokens import TokenizedTexts
from flipkd_sdk.training.run import train

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

DEGREES = {"anchor": 0, "match": 10, "Anchor!": 40, "twin": 5, "hard": 35, "harder": 30, "easy": 90, "labelled": 33}
"""Texts by direction; the labelled match is at a cosine of cos 10°."""
PAIRS = Pairs(("anchor", "anchor"), ("match", "labelled"), np.array([1, 0], np.int8))


def corpus_of(degrees: dict[str, int]) -> Corpus:
    radians = torch.deg2rad(torch.tensor(list(degrees.values()), dtype=torch.float32))
    vectors = torch.stack([radians.cos(), radians.sin()], dim=1)
    tokens = TokenizedTexts([[1]] * len(degrees), 0, 0)
    return Corpus({text: i for i, text in enumerate(degrees)}, tokens, vectors, vectors)


def mined(pairs: Pairs = PAIRS, degrees: dict[str, int] = DEGREES, **options: float) -> list[tuple[str, str]]:
    found = mine_negatives(corpus_of(degrees), pairs, MiningConfig(**options))
    assert not found.label.any()
    return list(zip(found.a, found.b, strict=True))


def test_off_by_default() -> None:
    assert mined() == []


def test_altered_copies_behind_the_texts_are_not_mined() -> None:
    corpus = corpus_of({**DEGREES, "a copy": 29})
    corpus.position.pop("a copy")
    assert mine_negatives(corpus, PAIRS, MiningConfig(negatives=1)).b == ("harder",)


def test_the_closest_below_the_ceiling_that_no_label_links_are_taken() -> None:
    # "twin" is a near-duplicate, "labelled" has a label, "Anchor!" is the anchor itself in other letters.
    assert mined(negatives=1) == [("anchor", "harder")]
    assert mined(negatives=9) == [("anchor", "harder"), ("anchor", "hard"), ("anchor", "easy")]


def test_a_near_duplicate_of_a_match_is_none_either() -> None:
    ceiling = float(np.cos(np.deg2rad(22)))  # "harder" is 20 degrees from "match"
    assert mined(negatives=1, ceiling=ceiling) == [("anchor", "hard")]


def test_what_matches_a_match_is_no_negative() -> None:
    linked = Pairs((*PAIRS.a, "harder"), (*PAIRS.b, "match"), np.array([1, 0, 1], np.int8))
    found = mined(linked, negatives=9, ceiling=0.995)
    assert {b for a, b in found if a == "anchor"}.isdisjoint({"harder", "match"})


def test_a_pair_is_mined_once_whatever_its_direction() -> None:
    pairs = Pairs(("a", "c"), ("b", "d"), np.array([1, 1], np.int8))
    assert mined(pairs, {"a": 0, "b": -5, "c": 30, "d": 35}, negatives=1) == [("a", "c")]


def test_nothing_to_mine_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert mined(negatives=1, ceiling=-1.0) == []
    assert "no hard negatives found below a teacher cosine of -1.000; raise mining.ceiling" in caplog.text


def test_mined_pairs_join_the_train_pairs_alone(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, mining={"negatives": 2, "ceiling": 0.999})
    result = train(config, tmp_path / "run")
    assert 24 <= result.mined_negatives <= 48
    assert result.pairs == {"train": 48, "dev": 24, "test": 24}
    assert "<h3>Mined negatives</h3>" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_joined_pairs_stand_behind() -> None:
    more = Pairs(("x",), ("y",), np.zeros(1, np.int8))
    both = join(PAIRS, more)
    assert (both.a, both.label.tolist()) == (("anchor", "anchor", "x"), [1, 0, 0])
    assert join(PAIRS, more.take([])) is PAIRS
