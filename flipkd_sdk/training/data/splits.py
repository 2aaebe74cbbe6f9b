"""The pairs and texts of a run, read from the files of its configuration."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation.retrieval import read_retrieval_set
from flipkd_sdk.pairs import read_pairs, read_texts, split_pairs, write_pairs

if TYPE_CHECKING:
    from pathlib import Path

    from flipkd_sdk.evaluation.retrieval import RetrievalSet
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import DataConfig

logger = logging.getLogger("flipkd_sdk")


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Pairs and texts that a run trains and is evaluated on."""

    train: Pairs
    dev: Pairs
    test: Pairs | None
    """None if the user keeps the test pairs apart."""
    held_out: frozenset[str]
    """Texts of the development and test pairs and the queries; the unlabelled texts contain none of them."""
    texts: tuple[str, ...]
    """Distinct texts for L_dist: those of the train pairs and the unlabelled ones."""
    queries: RetrievalSet | None = None
    """Queries and exemplars, if retrieval is measured."""
    learned_queries: int = 0
    """Number of distinct queries that also occur in the train pairs."""

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
    held_out = frozenset(evaluated | query_texts)
    texts = dict.fromkeys(train.texts) | dict.fromkeys(text for text in unlabelled if text not in held_out)
    return TrainingData(train, dev, test, held_out, tuple(texts), queries, learned)


def _read_queries(config: DataConfig) -> RetrievalSet | None:
    if config.queries is None or config.exemplars is None:
        return None
    columns = {"text_column": config.text_column, "intent_column": config.intent_column}
    return read_retrieval_set(config.queries, config.exemplars, **columns)


def write_splits(data: TrainingData, directory: Path) -> None:
    """Write ``train.csv``, ``dev.csv`` and, with a test split, ``test.csv``."""
    directory.mkdir()
    write_pairs(data.train, directory / "train.csv")
    write_pairs(data.dev, directory / "dev.csv")
    if data.test is not None:
        write_pairs(data.test, directory / "test.csv")
