"""The pairs and texts of a run, read from the files of its configuration."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.contrast.language import detect_language
from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation.retrieval import read_retrieval_set
from flipkd_sdk.pairs import read_pairs, read_texts, split_pairs, write_pairs, write_texts
from flipkd_sdk.training.data.validation import draw_validation_texts, read_validation_texts, same_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flipkd_sdk.evaluation.retrieval import RetrievalSet
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import DataConfig

TEXTS_FILE = "texts.csv"
SAMPLE_TEXTS = 4000
"""Most training texts in the run directory: the sketch of what the student learned from is made of them."""

logger = logging.getLogger("flipkd_sdk")

_FEWEST_TO_DETECT = 100


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Pairs and texts that a run trains and is evaluated on."""

    train: Pairs
    dev: Pairs
    test: Pairs | None
    """None if the user keeps the test pairs apart."""
    held_out: frozenset[str]
    """Texts of the development and test pairs, the queries and the validation; the unlabelled texts contain none of
    them."""
    texts: tuple[str, ...]
    """Distinct texts for L_dist: those of the train pairs and the unlabelled ones."""
    queries: RetrievalSet | None = None
    """Queries and exemplars, if retrieval is measured."""
    learned_queries: int = 0
    """Number of distinct queries that also occur in the train pairs."""
    validation_texts: tuple[str, ...] = ()
    """Texts that no stage learns; none of them is in `texts`."""

    @property
    def sizes(self) -> dict[str, int]:
        """Number of pairs by split."""
        return {"train": len(self.train), "dev": len(self.dev), "test": 0 if self.test is None else len(self.test)}


def read_data(config: DataConfig, *, seed: int, teacher_scores: bool = False) -> TrainingData:
    """Read all files, and split the pairs if there is no development file.

    Args:
        config: the files and their columns.
        seed: seed of the split.
        teacher_scores: also read the column of the teacher's scores.

    Raises:
        InvalidPairsError: a file cannot be used, the pairs are too few to split, or an intent of the queries has no
            exemplar.
        ConfigError: a test file is given without a development file.
    """
    read = partial(
        read_pairs,
        a_column=config.a_column,
        b_column=config.b_column,
        label_column=config.label_column,
        teacher_score_column=config.teacher_score_column if teacher_scores else None,
    )
    pairs = read(config.pairs)
    if config.dev is not None:
        train, dev = pairs, read(config.dev)
        test = read(config.test) if config.test is not None else None
    elif config.test is not None:
        raise ConfigError("option data.test needs data.dev too: the threshold is chosen on development pairs")
    else:
        splits = split_pairs(pairs, dev=config.dev_share, test=config.test_share, seed=seed)
        train, dev, test = splits.train, splits.dev, splits.test
    evaluated = set(dev.texts) | set(test.texts if test is not None else ())
    if shared := evaluated.intersection(train.texts):
        logger.warning(
            "%d texts of the dev or test pairs also occur in the train pairs; measures are inflated", len(shared)
        )
    unlabelled = read_texts(config.texts, column=config.text_column) if config.texts is not None else []
    _warn_of_another_language(train.texts, unlabelled)
    queries = _read_queries(config)
    query_texts = set(queries.queries.texts) if queries is not None else set()
    if learned := len(query_texts.intersection(train.texts)):
        logger.warning(
            "%d of %d queries also occur in training; retrieval scores are inflated", learned, len(query_texts)
        )
    if left_out := len(query_texts.intersection(unlabelled)):
        logger.warning(
            "%d of %d queries also occur in the unlabelled texts; they are left out there", left_out, len(query_texts)
        )
    held_out = evaluated | query_texts
    unlabelled = [text for text in dict.fromkeys(unlabelled) if text not in held_out]
    if config.validation_texts is not None:
        validation = read_validation_texts(config.validation_texts, config.text_column, train.texts)
    else:
        validation = draw_validation_texts(unlabelled, dev.texts, train.texts, share=config.validation_share, seed=seed)
    kept_back = {same_text(text) for text in validation}
    texts = dict.fromkeys([*train.texts, *(text for text in unlabelled if same_text(text) not in kept_back)])
    held_out.update(validation)
    return TrainingData(train, dev, test, frozenset(held_out), tuple(texts), queries, learned, validation)


def _warn_of_another_language(pairs: Sequence[str], unlabelled: Sequence[str]) -> None:
    language = detect_language(pairs)
    # A few texts, or texts of a word or two, contain too little to detect a language by.
    if language and len(unlabelled) >= _FEWEST_TO_DETECT and detect_language(unlabelled) != language:
        logger.warning(
            "the pairs are in the language %r and the unlabelled texts are not; texts of another language hardly help",
            language,
        )


def _read_queries(config: DataConfig) -> RetrievalSet | None:
    if config.queries is None or config.exemplars is None:
        return None
    columns = {"text_column": config.text_column, "intent_column": config.intent_column}
    return read_retrieval_set(config.queries, config.exemplars, **columns)


def write_splits(data: TrainingData, directory: Path) -> None:
    """Write ``train.csv``, ``dev.csv`` and, with a test split, ``test.csv``, and a sample of the texts."""
    directory.mkdir()
    sample = np.sort(np.random.default_rng(0).permutation(len(data.texts))[:SAMPLE_TEXTS])
    write_texts([data.texts[i] for i in sample], directory / TEXTS_FILE)
    write_pairs(data.train, directory / "train.csv")
    write_pairs(data.dev, directory / "dev.csv")
    if data.test is not None:
        write_pairs(data.test, directory / "test.csv")
