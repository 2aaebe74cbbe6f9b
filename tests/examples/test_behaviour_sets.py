"""The hand-written sets are what their README says."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from flipkd_sdk.contrast import read_contrast_pairs

ROOT = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["bank", "medicine"])
def test_sets_are_large_enough_and_half_paraphrases(name):
    pairs = read_contrast_pairs(ROOT / "behaviour" / f"{name}.csv")
    assert len(pairs) >= 150
    assert sum(pair.label for pair in pairs) >= len(pairs) / 2
    assert len({frozenset((pair.text_a, pair.text_b)) for pair in pairs}) == len(pairs)
    assert {"negation", "antonym", "date", "state", "role", "quantity"} <= {pair.kind for pair in pairs}


@pytest.mark.parametrize("name", ["bank", "medicine"])
def test_paraphrases_use_other_words(name):
    shares = []
    for pair in read_contrast_pairs(ROOT / "behaviour" / f"{name}.csv"):
        a, b = (set(re.findall(r"[a-z]{4,}", text.lower())) for text in (pair.text_a, pair.text_b))
        if pair.label:
            shares.append(len(a & b) / len(a | b))
    assert max(shares) < 0.5
    assert sum(shares) / len(shares) < 0.15


@pytest.mark.parametrize("name", ["bank", "medicine"])
def test_the_readme_has_the_counts(name):
    readme = (ROOT / "behaviour" / "README.md").read_text("utf-8")
    for kind, count in Counter(pair.kind for pair in read_contrast_pairs(ROOT / "behaviour" / f"{name}.csv")).items():
        line = next(line for line in readme.splitlines() if line.startswith(f"| {kind} |"))
        assert line.split("|")[2 if name == "bank" else 3].strip() == str(count)


def test_no_text_is_part_of_the_training_data():
    with (ROOT / "bank_faq" / "questions.csv").open(encoding="utf-8") as file:
        trained = {value.strip().casefold() for row in csv.DictReader(file) for value in row.values()}
    for name in ("bank", "medicine"):
        for pair in read_contrast_pairs(ROOT / "behaviour" / f"{name}.csv"):
            assert trained.isdisjoint({pair.text_a.casefold(), pair.text_b.casefold()})
