"""Draw the demo's data from the bundled FAQ: pairs of questions, and unlabelled sentences of the same domain.

    python examples/bank_faq/draw.py demo/data

Each intent's twelve phrasings are dealt out to train (6), dev (3) and test (3), so that no text is in two splits.
Within a split, any two phrasings of an intent are a match. For each match there is one non-match: a third of them take
the other text from another intent of the same topic, the rest from any other topic.
"""

import csv
import itertools
import random
import sys
from collections import defaultdict
from pathlib import Path

from generate import load_grammar, sentences

HERE = Path(__file__).parent
PHRASINGS = {"train": 6, "dev": 3, "test": 3}
NEIGHBOURING = 3
"""Every third non-match is a hard negative."""
UNLABELLED = 25_000
SEED = 0

Question = tuple[str, str, str]
"""Topic, intent, text."""
Pair = tuple[str, str, int]


def main(out: Path) -> None:
    """Write train.csv, dev.csv, test.csv and texts.csv."""
    with (HERE / "questions.csv").open(encoding="utf-8", newline="") as file:
        questions = [(row["topic"], row["intent"], row["text"]) for row in csv.DictReader(file)]
    rng = random.Random(SEED)  # noqa: S311 - drawing data, not secrets
    out.mkdir(parents=True, exist_ok=True)
    for name, split in deal(questions, rng).items():
        write(out / f"{name}.csv", ("text_a", "text_b", "label"), pairs(split, rng))
    texts = sentences(load_grammar(HERE / "grammar.toml"), UNLABELLED, seed=SEED)
    write(out / "texts.csv", ("text",), [(text,) for text in texts])


def deal(questions: list[Question], rng: random.Random) -> dict[str, list[Question]]:
    """Deal each intent's phrasings out to the splits."""
    by_intent: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_intent[question[1]].append(question)
    splits: dict[str, list[Question]] = {name: [] for name in PHRASINGS}
    for phrasings in by_intent.values():
        rng.shuffle(phrasings)
        hand = iter(phrasings)
        for name, count in PHRASINGS.items():
            splits[name] += itertools.islice(hand, count)
    return splits


def pairs(questions: list[Question], rng: random.Random) -> list[Pair]:
    """Return all matches of a split and as many non-matches, in random order."""
    matches = [(a, b) for a, b in itertools.combinations(questions, 2) if a[1] == b[1]]
    drawn: dict[tuple[str, str], int] = {(a[2], b[2]): 1 for a, b in matches}
    for number, (a, _) in enumerate(matches):
        neighbouring = number % NEIGHBOURING == 0
        others = [b for b in questions if b[1] != a[1] and (b[0] == a[0]) == neighbouring]
        fresh = [b for b in others if (a[2], b[2]) not in drawn and (b[2], a[2]) not in drawn]
        drawn[a[2], rng.choice(fresh)[2]] = 0
    result = [(a, b, label) for (a, b), label in drawn.items()]
    rng.shuffle(result)
    return result


def write(path: Path, header: tuple[str, ...], rows: list[Pair] | list[tuple[str]]) -> None:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
