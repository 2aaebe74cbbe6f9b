"""Labelled pairs of texts: reading, writing, and splitting so that no two splits share a text."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.atomic import atomic_file
from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.tables.decoding import Lines, open_binary
from flipkd_sdk.tables.reader import Record, Records, open_records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


_LABELS = {"0": 0, "1": 1, "no": 0, "yes": 1, "false": 0, "true": 1}


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of texts, labelled as matches or not.

    Example:
        >>> pairs = Pairs(("reset password", "open account"), ("new password", "close it"), np.array([1, 0], np.int8))
        >>> len(pairs), pairs.take([1]).a
        (2, ('open account',))
    """

    a: tuple[str, ...]
    b: tuple[str, ...]
    label: NDArray[np.int8]
    """1 for a match, 0 for none; shape (n,)."""
    teacher_score: NDArray[np.float32] | None = None
    """Scores of the user's own teacher, in [−1, 1]; shape (n,)."""

    def __post_init__(self) -> None:
        if self.teacher_score is not None and self.teacher_score.shape != (len(self.a),):
            raise InvalidPairsError(f"{len(self.a)} pairs with teacher scores of shape {self.teacher_score.shape}")
        if len(self.a) != len(self.b) or self.label.shape != (len(self.a),):
            raise InvalidPairsError(
                f"pairs need as many a texts as b texts and labels, found {len(self.a)}, {len(self.b)} and "
                f"labels of shape {self.label.shape}"
            )

    def __len__(self) -> int:
        return len(self.a)

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the distinct texts in order of their first occurrence, pair by pair."""
        return tuple(dict.fromkeys(itertools.chain.from_iterable(zip(self.a, self.b, strict=True))))

    @property
    def matches(self) -> list[tuple[str, str]]:
        """Return the pairs with label 1."""
        return [(a, b) for a, b, label in zip(self.a, self.b, self.label, strict=True) if label]

    def take(self, indices: Iterable[int]) -> Pairs:
        """Return the pairs at the given positions, in that order."""
        chosen = [int(i) for i in indices]
        scores = None if self.teacher_score is None else self.teacher_score[chosen]
        return Pairs(tuple(self.a[i] for i in chosen), tuple(self.b[i] for i in chosen), self.label[chosen], scores)


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Pairs for training, development (calibration, early stopping) and test."""

    train: Pairs
    dev: Pairs
    test: Pairs


def read_pairs(
    path: str | Path,
    *,
    a_column: str = "text_a",
    b_column: str = "text_b",
    label_column: str = "label",
    teacher_score_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> Pairs:
    """Read labelled pairs from CSV with a header, or from JSONL (``.jsonl``, ``.ndjson``); either may be gzipped.

    Args:
        path: the file.
        a_column: name of the column of first texts; in CSV also its 1-based position.
        b_column: the same for the second texts.
        label_column: the same for the labels, which are 0 or 1, no or yes, false or true.
        teacher_score_column: the same for a teacher's scores, numbers in [−1, 1]; by default none are read.
        delimiter: of CSV; by default detected, see `open_records`.
        encoding: of the file.

    Raises:
        InvalidPairsError: the file cannot be used or contains pairs of one label only; the message names the line
            and the column.
    """
    a: list[str] = []
    b: list[str] = []
    label: list[int] = []
    scores: list[float] = []
    with open_records(path, delimiter=delimiter, encoding=encoding) as records:
        a_name, b_name, label_name = map(records.column, (a_column, b_column, label_column))
        score_name = None if teacher_score_column is None else records.column(teacher_score_column)
        for record in records.rows:
            a.append(records.text(record, a_name))
            b.append(records.text(record, b_name))
            label.append(_label(records, record, label_name))
            if score_name is not None:
                scores.append(_score(records, record, score_name))
    if not label:
        raise InvalidPairsError(f"{path}: no pairs; expected at least one of each label")
    if len(set(label)) == 1:
        raise InvalidPairsError(
            f"{path}: all {len(label)} pairs have label {label[0]}; add pairs of label {1 - label[0]}"
        )
    teacher_score = None if teacher_score_column is None else np.array(scores, np.float32)
    return Pairs(tuple(a), tuple(b), np.array(label, np.int8), teacher_score)


def read_texts(path: str | Path, *, column: str = "text") -> list[str]:
    """Read texts from a column of CSV or JSONL, or from a ``.txt`` file with one text per line; UTF-8.

    Raises:
        InvalidPairsError: the file cannot be used; the message names the line and the column.
    """
    if Path(path).suffix.lower() == ".txt":
        with open_binary(path) as stream:
            lines = Lines(stream, str(path), "utf-8")
            texts = [lines.take().rstrip("\r\n") for _ in lines]
    else:
        with open_records(path) as records:
            name = records.column(column)
            texts = [records.text(record, name) for record in records.rows]
    if not texts:
        raise InvalidPairsError(f"{path}: no texts; expected at least one")
    return texts


def write_pairs(pairs: Pairs, path: str | Path) -> None:
    """Write pairs as CSV, as `read_pairs` reads them.

    The columns are ``text_a``, ``text_b`` and ``label``, and ``teacher_score`` if the pairs have such scores.
    """
    with atomic_file(Path(path)) as file:
        # Texts are always quoted: before Python 3.13 csv leaves a lone carriage return bare, which ends a record.
        writer = csv.writer(codecs.getwriter("utf-8")(file), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        columns = {"text_a": pairs.a, "text_b": pairs.b, "label": pairs.label.tolist()}
        if pairs.teacher_score is not None:
            columns["teacher_score"] = pairs.teacher_score.tolist()
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_texts(texts: Iterable[str], path: Path) -> None:
    """Write texts as CSV with the column ``text``, as `read_texts` reads them."""
    with atomic_file(path) as file:
        writer = csv.writer(codecs.getwriter("utf-8")(file), quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([("text",), *((text,) for text in texts)])


def split_pairs(pairs: Pairs, *, dev: float = 0.15, test: float = 0.15, seed: int = 0) -> Splits:
    """Split pairs so that no two splits share a text.

    Pairs that share a text, directly or through other pairs, form a group, and a group stays together. Groups are
    assigned from the largest to the smallest, each to the split that lacks most of the group's labels. Large groups
    thereby go to train first, and sizes and label shares come as near to the fractions as the groups allow. Within a
    split the pairs keep their order.

    Args:
        pairs: at least one of each label per split.
        dev: fraction of the pairs for the development split; 0 leaves it empty.
        test: fraction of the pairs for the test split; 0 leaves it empty.
        seed: decides among groups of equal size; the same seed gives the same splits.

    Raises:
        ConfigError: the fractions are not in [0, 1) or leave nothing for train.
        InvalidPairsError: too few groups for pairs of both labels in each split.
    """
    if not (dev >= 0 and test >= 0 and dev + test < 1):
        raise ConfigError(f"split fractions dev={dev} and test={test}: both must be at least 0 and their sum below 1")
    group = group_numbers(pairs)
    fractions = np.array([1 - dev - test, dev, test])
    assigned = _assign(group, pairs.label, fractions, np.random.default_rng(seed))
    splits = [pairs.take(np.flatnonzero(assigned[group] == i)) for i in range(3)]
    for name, split, fraction in zip(("train", "dev", "test"), splits, fractions, strict=True):
        if fraction and len(set(split.label.tolist())) < 2:
            raise InvalidPairsError(_too_few_groups(pairs, group, name, int(np.count_nonzero(fractions))))
    return Splits(*splits)


def fold_numbers(pairs: Pairs, folds: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Return the fold of each pair, in [0, folds), such that no two folds share a text; shape (n,).

    Groups of pairs that share texts are assigned as in `split_pairs`, to folds of nearly equal size and labels.

    Raises:
        InvalidPairsError: too few groups for pairs of both labels in each fold.
    """
    group = group_numbers(pairs)
    fold = _assign(group, pairs.label, np.full(folds, 1 / folds), np.random.default_rng(seed))[group]
    for number in range(folds):
        if len(set(pairs.label[fold == number].tolist())) < 2:
            raise InvalidPairsError(_too_few_groups(pairs, group, f"fold {number + 1} of {folds}", folds))
    return fold


def _label(records: Records, record: Record, column: str) -> int:
    value = records.value(record, column)
    if isinstance(value, str):
        label = _LABELS.get(value.lower())
    else:
        label = int(value) if isinstance(value, int) and value in (0, 1) else None
    if label is None:
        found = json.dumps(value, ensure_ascii=False)[:60]
        raise InvalidPairsError(
            f"{records.source}:{record.line}: column {column!r}: label {found}; expected 0 or 1, "
            "no or yes, false or true"
        )
    return label


def _score(records: Records, record: Record, column: str) -> float:
    value = records.value(record, column)
    try:
        score = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not -1 <= score <= 1:  # NaN fails this comparison too.
        found = json.dumps(value, ensure_ascii=False)[:60]
        raise InvalidPairsError(
            f"{records.source}:{record.line}: column {column!r}: teacher score {found}; expected a number in [-1, 1], "
            "like a cosine or a probability"
        )
    return score


def group_numbers(pairs: Pairs) -> NDArray[np.int64]:
    """Return the number of each pair's group, in order of first occurrence; shape (n,).

    Pairs that share a text, directly or through other pairs, form a group.
    """
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = text = parent[parent[text]]  # Halving the path keeps later walks short.
        return text

    for a, b in zip(pairs.a, pairs.b, strict=True):
        parent[root(a)] = root(b)
    number: dict[str, int] = {}
    return np.array([number.setdefault(root(a), len(number)) for a in pairs.a], np.int64)


def _assign(
    group: NDArray[np.int64], label: NDArray[np.int8], fractions: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the number of each group's split; shape (groups,)."""
    groups = int(group.max(initial=-1)) + 1
    content = np.stack([np.bincount(group[label == value], minlength=groups) for value in (0, 1)], axis=1)
    shuffled = rng.permutation(groups)
    order = shuffled[np.argsort(-content.sum(axis=1)[shuffled], kind="stable")]
    lacking = fractions[:, None] * content.sum(axis=0)
    wanted = np.flatnonzero(fractions)
    assigned = np.empty(groups, np.int64)
    for i in order:
        # This split reduces the squared distance to all targets most.
        chosen = wanted[np.argmax(lacking[wanted] @ content[i])]
        assigned[i] = chosen
        lacking[chosen] -= content[i]
    return assigned


def _too_few_groups(pairs: Pairs, group: NDArray[np.int64], name: str, splits: int) -> str:
    sizes = np.bincount(group, minlength=1)
    matches = int(pairs.label.sum())
    with_matches, with_others = (len(np.unique(group[pairs.label == value])) for value in (1, 0))
    part = name if name.startswith("fold") else f"the {name} split"
    return (
        f"{part} would lack pairs of label 0 or 1: the {len(pairs)} pairs ({matches} matches) form "
        f"{len(np.unique(group))} groups linked by shared texts, the largest of {int(sizes.max())} pairs; "
        f"at least {splits} groups with matches and {splits} with non-matches are needed, found {with_matches} and "
        f"{with_others}; add pairs of other texts, or pass the splits as separate files"
    )
