"""Training files of each set, made from the data folder in a work folder.

No student is trained on a text of any set's development or test file.
"""

from __future__ import annotations

import csv
import random
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.evaluation.retrieval import read_intents
from flipkd_sdk.pairs import Pairs, read_pairs, read_texts, split_pairs, write_pairs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    Intents = Sequence[tuple[str, str]]
    """Texts with their intents."""

DEV_SHARE = 0.1
"""Share of the train pairs, or of an intent's texts, kept for development in sets without a development file."""
FEWER_TEXTS = 3_000
"""Texts of other sets for a shorter alignment."""
FEWER_PAIRS = {"rqe": 3_000, "atec": 12_000}
"""Train pairs of the larger sets."""
TEXT_COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000)
"""Sizes of the files of texts from which a curve is drawn; the largest contains all there are."""
FEWEST_WORDS = 4
DRAWN = 50
"""Texts of other intents to choose a hard non-match from."""


def prepare(name: str, data: Path, work: Path) -> Path:
    """Return the folder with the files of a set, written on the first call: all of them or none.

    Raises:
        InvalidPairsError: the data folder lacks a file.
    """
    folder = work / "inputs" / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        working = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _SETS[name](data, working)
            working.rename(folder)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    return folder


def mqp(data: Path, folder: Path) -> None:
    """Write the medical question pairs in their splits, with all medical texts and their sentences."""
    texts = _english(data, ("mqp", "rqe"), apart=True)
    train = _write_splits(folder, *(read_pairs(data / "mqp" / f"{name}.csv") for name in ("train", "dev", "test")))
    write_texts(folder / "texts.csv", texts)
    own = set(train.texts)
    others = [text for text in texts if text not in own]
    fewer = random.Random(0).sample(others, min(FEWER_TEXTS, len(others)))
    write_texts(folder / "texts-small.csv", [*train.texts, *fewer])


def mqp_medquad(data: Path, folder: Path) -> None:
    """Write the medical question pairs with files of so many texts: first those of the pairs, then of medquad."""
    train = _write_splits(folder, *(read_pairs(data / "mqp" / f"{name}.csv") for name in ("train", "dev", "test")))
    held_out = {text for name in ("mqp/dev", "mqp/test", "rqe/dev") for text in read_pairs(data / f"{name}.csv").texts}
    others = [text for text in read_texts(data / "medquad" / "texts.csv") if text not in held_out]
    texts = list(dict.fromkeys([*train.texts, *random.Random(0).sample(others, len(others))]))
    for count in TEXT_COUNTS:
        write_texts(folder / f"texts-{count}.csv", texts[:count])


def rqe(data: Path, folder: Path) -> None:
    """Write consumer questions with FAQ entries: part of train for development, the dev file for the report."""
    splits = split_pairs(read_pairs(data / "rqe" / "train.csv"), dev=DEV_SHARE, test=0, seed=0)
    _write_splits(folder, _fewer(splits.train, "rqe"), splits.dev, read_pairs(data / "rqe" / "dev.csv"))
    write_texts(folder / "texts.csv", _english(data, ("rqe",), without=splits.dev.texts))


def banking77(data: Path, folder: Path) -> None:
    """Write pairs derived from the intents of bank questions, and the test questions as queries."""
    train, test = (_read_intents(data / "banking77" / f"{name}.csv") for name in ("train", "test"))
    by_intent = _by_intent(train)
    kept = {text for texts in by_intent.values() for text in texts[:: round(1 / DEV_SHARE)]}
    learn, dev = ([row for row in train if (row[0] in kept) == held] for held in (False, True))
    _write_splits(folder, *(intent_pairs(rows, seed) for seed, rows in enumerate((learn, dev, test))))
    write_texts(folder / "texts.csv", _english(data, ("banking77",), without=kept))
    _write_intents(folder / "queries.csv", test)
    _write_intents(folder / "exemplars.csv", train)


def atec(data: Path, folder: Path) -> None:
    """Write finance questions in Chinese, and a character encoder to be trained from scratch."""
    train, dev, test = (read_pairs(data / "atec" / f"{name}.csv") for name in ("train", "dev", "test"))
    train = _write_splits(folder, _fewer(train, "atec"), dev, test)
    write_encoder(folder / "encoder", train.texts)


_SETS = {"mqp": mqp, "mqp-medquad": mqp_medquad, "rqe": rqe, "banking77": banking77, "atec": atec}


def intent_pairs(rows: Intents, seed: int) -> Pairs:
    """Return pairs from texts with intents: each text is once the first one, in turn of a match and of a non-match.

    A match is another text of the intent. Every other non-match is a hard one: of `DRAWN` texts of other intents, the
    one that shares most of its words with the first text (Jaccard).

    Args:
        rows: distinct texts; with two texts of one intent and two intents at least.
        seed: of the draw.
    """
    rng = random.Random(seed)
    rows = rng.sample(rows, len(rows))
    by_intent = _by_intent(rows)
    words = {text: frozenset(text.lower().split()) for text, _ in rows}

    def stranger(intent: str) -> str:
        while (drawn := rng.choice(rows))[1] == intent:
            pass
        return drawn[0]

    found: list[tuple[str, str, int]] = []
    for number, (text, intent) in enumerate(rows):
        others = [other for other in by_intent[intent] if other != text]
        if number % 2 == 0 and others:
            found.append((text, rng.choice(others), 1))
        elif number % 4 == 1:
            found.append((text, stranger(intent), 0))
        else:
            drawn = [stranger(intent) for _ in range(DRAWN)]
            found.append((text, max(drawn, key=lambda other: _jaccard(words[text], words[other])), 0))
    a, b, label = zip(*found, strict=True)
    return Pairs(a, b, np.array(label, np.int8))


def write_encoder(folder: Path, texts: Iterable[str]) -> None:
    """Write architecture and tokenizer of a small BERT whose tokens are the characters that occur twice."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    counts = Counter(character for text in texts for character in normalizer.normalize_str(text))
    known = sorted(character for character, count in counts.items() if count > 1 and not character.isspace())
    vocabulary = {token: number for number, token in enumerate([*special.values(), *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=128,
        pad_token_id=vocabulary["[PAD]"],
    ).save_pretrained(folder)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text with at least a few words."""
    parts = re.split(r"(?<=[.?!])\s+", text)
    return [part for part in parts if len(part.split()) >= FEWEST_WORDS]


def _english(data: Path, sets: Collection[str], *, without: Collection[str] = (), apart: bool = False) -> list[str]:
    """Return the distinct texts of English train files without held-out ones.

    Args:
        data: the data folder.
        sets: whose train files.
        without: the others.
        apart: take each sentence of theirs as a text, too.
    """
    held_out = {
        *without,
        *(text for name in ("mqp/dev", "mqp/test", "rqe/dev") for text in read_pairs(data / f"{name}.csv").texts),
        *(text for text, _ in _read_intents(data / "banking77" / "test.csv")),
    }
    texts = [
        *(text for name in ("mqp", "rqe") if name in sets for text in read_pairs(data / name / "train.csv").texts),
        *(text for text, _ in _read_intents(data / "banking77" / "train.csv") if "banking77" in sets),
    ]
    if apart:
        texts += [sentence for text in texts for sentence in sentences(text)]
    return [text for text in dict.fromkeys(texts) if text not in held_out]


def _fewer(train: Pairs, name: str) -> Pairs:
    """Return as many train pairs as a run of this set has time for."""
    return train.take(np.sort(np.random.default_rng(0).permutation(len(train))[: FEWER_PAIRS[name]]).tolist())


def _write_splits(folder: Path, train: Pairs, dev: Pairs, test: Pairs) -> Pairs:
    """Write three splits and return the train pairs that share no text with the others."""
    held_out = {*dev.texts, *test.texts}
    apart = [i for i, pair in enumerate(zip(train.a, train.b, strict=True)) if held_out.isdisjoint(pair)]
    train = train.take(apart)
    for name, pairs in (("train", train), ("dev", dev), ("test", test)):
        write_pairs(pairs, folder / f"{name}.csv")
    return train


def _read_intents(file: Path) -> Intents:
    found = read_intents(file)
    return list(dict(zip(found.texts, found.intents, strict=True)).items())


def _write_intents(file: Path, rows: Intents) -> None:
    _write_rows(file, ("text", "intent"), rows)


def write_texts(file: Path, texts: Iterable[str]) -> None:
    """Write texts as a CSV with the column ``text``."""
    _write_rows(file, ("text",), ((text,) for text in texts))


def _write_rows(file: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([header, *rows])


def _by_intent(rows: Intents) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for text, intent in rows:
        found[intent].append(text)
    return found


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / (len(one | other) or 1)
