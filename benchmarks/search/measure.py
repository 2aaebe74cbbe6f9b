"""Searches with a threshold: answers that are right, queries left unanswered, and texts of other domains."""

from __future__ import annotations

import csv
import dataclasses
import random
from typing import TYPE_CHECKING, Any

import numpy as np
from environment import ROOT, data_folder
from runtime.parts import parts_command

from flipkd_sdk import Matcher
from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.evaluation.retrieval import IntentTexts, read_intents
from flipkd_sdk.evaluation.searches import fit_search_threshold, measure_answers, search
from flipkd_sdk.pairs import read_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from runtime.parts import Setting

    from flipkd_sdk.evaluation.searches import Found

STRANGERS = 84
"""Sentences without an answer beside the demo's 216 questions of a split: 300 searches."""
PRECISIONS = (0.95, 0.97)
"""Precisions that the threshold is fitted for; the second one leaves room for chance."""


def clinc150(setting: Setting) -> dict[str, Any]:
    """Search the test queries among the train exemplars; the threshold is fitted on the dev queries."""
    data = data_folder([f"clinc150/{split}.csv" for split in ("train", "dev", "test")]) / "clinc150"
    train, dev, test = (read_intents(data / f"{split}.csv") for split in ("train", "dev", "test"))
    return _measured(setting, train, _drawn(dev, setting), _drawn(test, setting))


def demo(setting: Setting) -> dict[str, Any]:
    """Search the demo's test questions and medical sentences among its train questions; fitted on its dev questions."""
    with (ROOT / "examples" / "bank_faq" / "questions.csv").open(encoding="utf-8", newline="") as file:
        intent = {row["text"]: row["intent"] for row in csv.DictReader(file)}
    medicine = read_pairs(ROOT / "examples" / "behaviour" / "medicine.csv").texts
    splits = {}
    for number, split in enumerate(("train", "dev", "test")):
        texts = read_pairs(setting.matcher.parent / "data" / f"{split}.csv").texts
        strangers = () if number == 0 else medicine[(number - 1) * STRANGERS : number * STRANGERS]
        splits[split] = _intent_texts([*((text, intent[text]) for text in texts), *((text, "") for text in strangers)])
    return _measured(setting, splits["train"], _drawn(splits["dev"], setting), _drawn(splits["test"], setting))


def familiarity(setting: Setting) -> dict[str, Any]:
    """Return the shares of texts of other domains that are unfamiliar to the demo's matcher."""
    data = data_folder(["clinc150/test.csv", "mqp/test.csv", "banking77/test.csv"])
    demo_data = setting.matcher.parent / "data"
    sets = {
        "demo test": read_pairs(demo_data / "test.csv").texts,
        "banking77 test": read_intents(data / "banking77" / "test.csv").texts,
        "clinc150 test": read_intents(data / "clinc150" / "test.csv").texts,
        "mqp test": read_pairs(data / "mqp" / "test.csv").texts,
    }
    with setting.load() as matcher:
        found = {}
        for name, texts in sets.items():
            drawn = random.Random(0).sample(list(dict.fromkeys(texts)), min(setting.size(1000), len(set(texts))))
            value = matcher.familiarity(drawn)
            found[name] = {
                "texts": len(drawn),
                "below 0.01": float((value < 0.01).mean()),
                "below 0.05": float((value < 0.05).mean()),
                "median": float(np.median(value)),
            }
    return found


def _measured(setting: Setting, candidates: IntentTexts, dev: IntentTexts, test: IntentTexts) -> dict[str, Any]:
    found: dict[str, Any] = {"candidates": len(candidates), "dev queries": len(dev), "test queries": len(test)}
    # The cache lets both searches encode the candidates once.
    with Matcher.load(setting.matcher, cache_size=50_000, device="cpu", on_truncate="ignore") as matcher:
        on_dev, on_test = (search(matcher, part.texts, candidates.texts) for part in (dev, test))
        systems = {"cosine": (matcher.calibration, on_dev.cosine, on_test.cosine)}
        if on_dev.head is not None and on_test.head is not None:
            systems["head"] = (matcher.pair_calibration, on_dev.head, on_test.head)
    for name, (calibration, dev_best, test_best) in systems.items():
        dev_right, _ = _judged(dev_best, candidates, dev)
        right, answerable = _judged(test_best, candidates, test)
        thresholds = {
            "pairs": calibration.threshold,
            "search, from export": None if calibration.search is None else calibration.search.threshold,
        }
        for precision in PRECISIONS:
            try:
                fitted = fit_search_threshold(dev_best.score, dev_right, precision=precision)
                thresholds[f"search, fitted for {precision}"] = fitted.threshold
            except (ConfigError, InvalidPairsError) as error:
                thresholds[f"search, fitted for {precision}: {error}"] = None
        found[name] = {"top1 of answerable": float(right[answerable].mean())} | {
            kind: None
            if least is None
            else dataclasses.asdict(measure_answers(test_best.score, right, answerable, least))
            for kind, least in thresholds.items()
        }
    return found


def _judged(best: Found, candidates: IntentTexts, queries: IntentTexts) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return True for right best candidates, and for queries with a right candidate."""
    known = set(candidates.intents)
    answerable = np.array([intent in known for intent in queries.intents])
    wanted, offered = np.array(queries.intents, object), np.array(candidates.intents, object)
    return (offered[best.index] == wanted) & answerable, answerable


def _drawn(queries: IntentTexts, setting: Setting) -> IntentTexts:
    """Return all queries, or fewer at a smaller scale."""
    rows = list(zip(queries.texts, queries.intents, strict=True))
    return _intent_texts(random.Random(0).sample(rows, setting.size(len(rows))))


def _intent_texts(rows: Iterable[tuple[str, str]]) -> IntentTexts:
    texts, intents = zip(*rows, strict=True)
    return IntentTexts(texts, intents)


main = parts_command(
    "search",
    {"clinc150": clinc150, "demo": demo, "familiarity": familiarity},
    "Measure searches with a threshold. MATCHER is one of clinc150 for that part, else the demo's in its folder.",
)
