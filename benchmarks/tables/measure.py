"""Tables grouped and joined: quality on known intents, time and memory of large tables."""

from __future__ import annotations

import csv
import random
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from environment import ROOT, data_folder
from runtime.parts import parts_command, run_program, texts

from flipkd_sdk.evaluation.retrieval import read_intents
from flipkd_sdk.runtimes.linkage.dedupe import dedupe
from flipkd_sdk.runtimes.linkage.link import link

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from runtime.parts import Setting

_ROWS = 400
_ENTRIES = 132
_WITH_ENTRY, _WITHOUT_ENTRY = 258, 42
_LEFT_OUT_INTENTS = 6
_SIZES = (50_000, 100_000, 200_000, 300_000)
_THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99)


def group_demo(setting: Setting) -> dict[str, Any]:
    """Group 400 questions of the demo's 72 intents: those of its train split, and those of the other two."""
    splits = _questions()
    found = {}
    for name, rows in (("train", splits["train"]), ("dev and test", splits["dev"] + splits["test"])):
        drawn = random.Random(0).sample(rows, _ROWS)
        found[name] = _grouped(setting, [text for _, text in drawn], [intent for intent, _ in drawn])
    return found


def group_clinc150(setting: Setting) -> dict[str, Any]:
    """Group the test queries of clinc150; each query out of scope is a group of its own."""
    test = read_intents(data_folder(["clinc150/test.csv"]) / "clinc150" / "test.csv")
    intents = [intent if intent != "oos" else f"oos {row}" for row, intent in enumerate(test.intents)]
    drawn = random.Random(0).sample(range(len(intents)), setting.size(len(intents)))
    return _grouped(setting, [test.texts[row] for row in drawn], [intents[row] for row in drawn])


def link_demo(setting: Setting) -> dict[str, Any]:
    """Link 300 questions to 132 entries of 66 intents; 42 questions have another intent."""
    splits = _questions()
    intents = sorted({intent for intent, _ in splits["train"]})
    left_out = set(random.Random(0).sample(intents, _LEFT_OUT_INTENTS))
    entries = [row for intent in intents if intent not in left_out for row in _of(splits["train"], intent)[:2]]
    unseen = splits["dev"] + splits["test"]
    drawn = random.Random(0)
    questions = drawn.sample([row for row in unseen if row[0] not in left_out], _WITH_ENTRY)
    questions += drawn.sample([row for rows in splits.values() for row in rows if row[0] in left_out], _WITHOUT_ENTRY)
    if len(entries) != _ENTRIES:
        raise ValueError(f"{len(entries)} entries")
    asked, offered = ([text for _, text in rows] for rows in (questions, entries))
    with setting.load() as matcher:
        default = link(matcher, asked, offered)
        thresholds = [default.threshold, *(t for t in _THRESHOLDS if t != default.threshold)]
        links = [default, *(link(matcher, asked, offered, threshold=t) for t in thresholds[1:])]
    found = []
    for threshold, made in zip(thresholds, links, strict=True):
        right = sum(questions[a][0] == entries[b][0] for a, b in zip(made.a.tolist(), made.b.tolist(), strict=True))
        found.append(
            {
                "threshold": threshold,
                "links": len(made.a),
                "precision": right / max(1, len(made.a)),
                "recall": right / _WITH_ENTRY,
            }
        )
    return {"default": found[0], "others": found[1:]}


def large(setting: Setting) -> dict[str, Any]:
    """Group 100,000 distinct short texts: seconds of each step, and the peak of memory."""
    return _sized(setting, texts(setting.size(100_000), seed=1))


def equal(setting: Setting) -> dict[str, Any]:
    """Group a million equal rows."""
    return _sized(setting, ["how do I reset my PIN"] * setting.size(1_000_000))


def million(setting: Setting) -> dict[str, Any]:
    """Group a million vectors with the approximate search: seconds, memory, and recall of the exact pairs."""
    return run_program("mixture", setting.size(1_000_000), setting.dimension(), "ann")


def crossover(setting: Setting) -> dict[str, Any]:
    """Compare the exact search with the approximate one at several sizes, for the size of ``--search auto``."""
    return {
        f"{size:,}": {
            search: run_program("mixture", setting.size(size), setting.dimension(), search)
            for search in ("exact", "ann")
        }
        for size in _SIZES
    }


def ray(setting: Setting) -> dict[str, Any]:
    """Group 100,000 texts with two threads here and with two workers of Ray, after each has started."""
    path = _table(setting, texts(setting.size(100_000), seed=2))
    found = {
        name: run_program("grouped", setting.matcher, path, setting.folder / f"{name}.csv", *options)
        for name, options in (("local", ("--threads", 2)), ("ray", ("--engine", "ray", "--workers", 2)))
    }
    if (setting.folder / "local.csv").read_bytes() != (setting.folder / "ray.csv").read_bytes():
        raise ValueError("the engines wrote different rows")
    rates = [found[name]["after_first_report_seconds"] for name in ("local", "ray")]
    return {**found, "ray_rate_over_local": rates[0] / rates[1]}


def _sized(setting: Setting, rows: Sequence[str]) -> dict[str, Any]:
    return run_program("grouped", setting.matcher, _table(setting, rows), setting.folder / "groups.csv", "--threads", 2)


def _table(setting: Setting, rows: Sequence[str]) -> Path:
    path = setting.folder / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([row] for row in rows)])
    return path


def _questions() -> dict[str, list[tuple[str, str]]]:
    """Return intent and text of the demo's questions, by split."""
    sys.path.append(str(ROOT / "examples" / "bank_faq"))
    from draw import SEED, deal

    with (ROOT / "examples" / "bank_faq" / "questions.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["topic"], row["intent"], row["text"]) for row in csv.DictReader(file)]
    return {
        split: [(intent, text) for _, intent, text in dealt] for split, dealt in deal(rows, random.Random(SEED)).items()
    }


def _of(rows: Sequence[tuple[str, str]], intent: str) -> list[tuple[str, str]]:
    return [row for row in rows if row[0] == intent]


def _grouped(setting: Setting, rows: Sequence[str], intents: Sequence[str]) -> dict[str, Any]:
    with setting.load() as matcher:
        default = dedupe(matcher, rows)
        others = {threshold: dedupe(matcher, rows, threshold=threshold) for threshold in _THRESHOLDS}
        linkages = {
            name: dedupe(matcher, rows, threshold=default.threshold, linkage=name) for name in ("average", "components")
        }
    known = np.unique(np.array(intents), return_inverse=True)[1]
    return {
        "rows": len(rows),
        "intents": len(set(intents)),
        "default": {"threshold": default.threshold, **_pairwise(default.canonical, known)},
        "linkages": {name: _pairwise(groups.canonical, known) for name, groups in linkages.items()},
        "thresholds": {str(threshold): _pairwise(groups.canonical, known) for threshold, groups in others.items()},
    }


def _pairwise(found: NDArray[np.int64], known: NDArray[np.int64]) -> dict[str, float]:
    """Return precision, recall and F1 of the pairs of rows that are in one group."""
    both = np.unique(np.stack([found, known]), axis=1, return_counts=True)[1]
    sizes = [np.unique(labels, return_counts=True)[1] for labels in (found, known)]
    right, made, wanted = (int((counts * (counts - 1) // 2).sum()) for counts in (both, *sizes))
    return {
        "groups": len(sizes[0]),
        "precision": right / max(1, made),
        "recall": right / max(1, wanted),
        "f1": 2 * right / max(1, made + wanted),
    }


tables = parts_command(
    "tables",
    {
        "group-demo": group_demo,
        "group-clinc150": group_clinc150,
        "link-demo": link_demo,
        "large": large,
        "million": million,
        "crossover": crossover,
        "equal": equal,
        "ray": ray,
    },
    "Measure groups and joins of tables. MATCHER is one of clinc150 for that part, else the demo's.",
)
