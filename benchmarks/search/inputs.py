"""Training files of clinc150: pairs and texts made from its train and dev files, without out-of-scope queries."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import click
from environment import data_folder
from experiments.inputs import intent_pairs

from flipkd_sdk.evaluation.retrieval import read_intents
from flipkd_sdk.pairs import write_pairs

OUT_OF_SCOPE = "oos"
TRAIN_PAIRS = 5_000
DEV_PAIRS = 1_000
CONFIG = Path(__file__).with_name("clinc150.toml")


@click.command("clinc150-inputs")
@click.argument("out", type=click.Path(path_type=Path))
def main(out: Path) -> None:
    """Write the training files of clinc150 and their options to the folder OUT: same intent is a match, seed fixed."""
    data = data_folder(["clinc150/train.csv", "clinc150/dev.csv"]) / "clinc150"
    out.mkdir(parents=True, exist_ok=True)
    for seed, (split, size) in enumerate((("train", TRAIN_PAIRS), ("dev", DEV_PAIRS))):
        found = read_intents(data / f"{split}.csv")
        rows = dict(zip(found.texts, found.intents, strict=True)).items()
        pairs = intent_pairs([row for row in rows if row[1] != OUT_OF_SCOPE], seed)
        write_pairs(pairs.take(range(min(size, len(pairs)))), out / f"{split}.csv")
        if split == "train":
            with (out / "texts.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
                    [["text"], *([t] for t, _ in rows)]
                )
    shutil.copyfile(CONFIG, out / CONFIG.name)
