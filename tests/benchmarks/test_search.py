from __future__ import annotations

import csv
import shutil
from typing import TYPE_CHECKING

import pytest
from runtime.parts import Setting
from search.inputs import main as write_inputs
from search.measure import clinc150

from flipkd_sdk.pairs import read_pairs, read_texts

if TYPE_CHECKING:
    from pathlib import Path

VERBS = ("reset", "open", "see", "withdraw", "forgot")
THINGS = ("my card", "a transfer", "the account", "cash abroad", "this PIN")
INTENTS = [f"{verb} {thing}" for verb in VERBS for thing in THINGS]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files as those of clinc150: phrasings of each intent, and queries out of scope."""
    folder = tmp_path / "data" / "clinc150"
    folder.mkdir(parents=True)
    monkeypatch.setenv("FLIPKD_DATA", str(folder.parent))
    forms = {
        "train": ("How do I {}?", "{} please", "I want to {}", "can I {}"),
        "dev": ("where to {}", "must I {}"),
        "test": ("{} now",),
    }
    for split, templates in forms.items():
        rows = [(form.format(intent), intent) for intent in INTENTS for form in templates]
        strangers = [] if split == "train" else [(f"{split} Top up", "oos"), (f"{split} Thanks!", "oos")]
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "intent"), *rows, *strangers])
    return tmp_path


def test_training_files_contain_no_query_out_of_scope(data: Path) -> None:
    write_inputs([str(data / "inputs")], standalone_mode=False)
    train, dev = (read_pairs(data / "inputs" / f"{split}.csv") for split in ("train", "dev"))
    texts = read_texts(data / "inputs" / "texts.csv")
    assert len(train) == len(texts) == 100
    assert set(train.texts) <= set(texts)
    assert not set(dev.texts) & set(texts)
    assert not any("Top up" in text for text in (*dev.texts, *texts))


def test_answers_to_queries_out_of_scope_are_counted_apart(data: Path, tiny_matcher: Path) -> None:
    matcher = shutil.copytree(tiny_matcher, data / "matcher")
    found = clinc150(Setting(matcher, 1.0, data))
    assert (found["candidates"], found["dev queries"], found["test queries"]) == (100, 52, 27)
    pairs = found["cosine"]["pairs"]
    assert pairs["threshold"] == 0.5
    assert 0 <= pairs["false_answers"] <= 1
    assert found["cosine"]["search, from export"] is None
    assert 0 < found["cosine"]["top1 of answerable"] <= 1
