"""Texts of the benchmark."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.pairs import Pairs, read_pairs

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("mqp/train.csv", "mqp/dev.csv", "mqp/test.csv", "rqe/train.csv", "banking77/train.csv", "banking77/test.csv")
TEXTS = 2000
SINGLE_PAIRS = 500
EXEMPLARS = 3
"""Entries of the FAQ per intent."""
_FEWEST = 24


@dataclass(frozen=True)
class Workloads:
    """Texts by use; all distinct within each."""

    dev: Pairs
    test: Pairs
    """Medical question pairs: the threshold comes from ``dev``, the quality from ``test``."""
    texts: list[str]
    """Medical questions, including those of ``dev`` and ``test``, so that quality costs no extra run."""
    single: list[tuple[str, str]]
    """Pairs that are scored one by one."""
    candidates: list[str]
    """A FAQ of bank questions."""
    queries: list[str]
    best: list[frozenset[int]]
    """Candidates of the intent of each query."""
    sample: list[str]
    """Medical questions for the warm-up and for choosing batch sizes."""


def load_workloads(data: Path, scale: float) -> Workloads:
    """Read the texts.

    Args:
        data: folder of the data sets.
        scale: part of the numbers of texts to use; 1 for all.
    """
    train, dev, test = (read_pairs(data / "mqp" / f"{name}.csv") for name in ("train", "dev", "test"))
    dev, test = (_some(pairs, scale) for pairs in (dev, test))
    more = read_pairs(data / "rqe" / "train.csv")
    wanted = _scaled(TEXTS, scale)
    texts = list(dict.fromkeys([*dev.texts, *test.texts, *train.texts, *more.b]))
    texts = texts[: max(wanted, len({*dev.texts, *test.texts}))]
    random.Random(0).shuffle(texts)
    by_intent: dict[str, list[str]] = defaultdict(list)
    for text, intent in _banking(data / "banking77" / "train.csv"):
        by_intent[intent].append(text)
    faq = [(text, intent) for intent, known in sorted(by_intent.items()) for text in known[:EXEMPLARS]]
    places: dict[str, set[int]] = defaultdict(set)
    for i, (_, intent) in enumerate(faq):
        places[intent].add(i)
    asked = _banking(data / "banking77" / "test.csv")
    random.Random(1).shuffle(asked)
    asked = asked[: _scaled(len(asked), scale)]
    pairs = list(zip(test.a, test.b, strict=True))
    return Workloads(
        dev=dev,
        test=test,
        texts=texts,
        single=(pairs * (SINGLE_PAIRS // len(pairs) + 1))[: _scaled(SINGLE_PAIRS, scale)],
        candidates=[text for text, _ in faq],
        queries=[text for text, _ in asked],
        best=[frozenset(places[intent]) for _, intent in asked],
        sample=list(train.texts[-64:]),
    )


def _some(pairs: Pairs, scale: float) -> Pairs:
    order = np.random.default_rng(0).permutation(len(pairs))
    return pairs.take(np.sort(order[: _scaled(len(pairs), scale)]))


def _scaled(size: int, scale: float) -> int:
    return min(size, max(_FEWEST, int(size * scale)))


def _banking(file: Path) -> list[tuple[str, str]]:
    with file.open(encoding="utf-8", newline="") as rows:
        return list(dict.fromkeys((row["text"], row["intent"]) for row in csv.DictReader(rows)))
