"""Retrieval of intents: the rank of the first exemplar of a query's intent, and its measures top-1 and MRR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.reader import open_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Cosines in memory at a time: 16 MiB of float32.
_BLOCK = 1 << 22
_NAMED = 3


@dataclass(frozen=True, slots=True)
class IntentTexts:
    """Texts with their intents."""

    texts: tuple[str, ...]
    intents: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Queries, and the exemplars among which they are searched."""

    queries: IntentTexts
    exemplars: IntentTexts

    @property
    def texts(self) -> tuple[str, ...]:
        """Distinct texts of queries and exemplars."""
        return tuple(dict.fromkeys(self.queries.texts + self.exemplars.texts))


def read_intents(
    path: str | Path,
    *,
    text_column: str = "text",
    intent_column: str = "intent",
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> IntentTexts:
    """Read texts and their intents from CSV with a header, or from JSONL; either may be gzipped.

    Args:
        path: the file.
        text_column: name of the column of texts, or in CSV its 1-based number.
        intent_column: the same for the intents.
        delimiter: as for `open_records`.
        encoding: as for `open_records`.

    Raises:
        InvalidPairsError: the file cannot be used or is empty; the message names the line and the column.
    """
    with open_records(path, delimiter=delimiter, encoding=encoding) as records:
        columns = records.column(text_column), records.column(intent_column)
        rows = [tuple(records.text(record, column) for column in columns) for record in records.rows]
    if not rows:
        raise InvalidPairsError(f"{path}: no texts; expected at least one with its intent")
    texts, intents = zip(*rows, strict=True)
    return IntentTexts(texts, intents)


def read_retrieval_set(
    queries: str | Path, exemplars: str | Path, *, text_column: str = "text", intent_column: str = "intent"
) -> RetrievalSet:
    """Read both files with `read_intents`.

    Raises:
        InvalidPairsError: a file cannot be used, or an intent of the queries has no exemplar.
    """
    both = [read_intents(path, text_column=text_column, intent_column=intent_column) for path in (queries, exemplars)]
    _refuse_unknown(both[0].intents, both[1].intents, f"{queries}: ", f" in {exemplars}")
    return RetrievalSet(*both)


def first_ranks(
    queries: NDArray[np.float32],
    exemplars: NDArray[np.float32],
    query_intents: Sequence[str],
    exemplar_intents: Sequence[str],
) -> NDArray[np.int64]:
    """Return each query's rank by cosine of the first exemplar of its intent.

    An exemplar of another intent with an equal cosine is ranked first, so that the order of the exemplars does not
    improve the result.

    Args:
        queries: unit vectors, shape (n, d).
        exemplars: unit vectors, shape (m, d).
        query_intents: n intents.
        exemplar_intents: m intents.

    Returns:
        Ranks from 1 to m, shape (n,).

    Raises:
        InvalidPairsError: an intent of the queries has no exemplar.
    """
    _refuse_unknown(query_intents, exemplar_intents, "", "")
    number = {intent: i for i, intent in enumerate(dict.fromkeys(exemplar_intents))}
    wanted, offered = (np.array([number[x] for x in each], np.int64) for each in (query_intents, exemplar_intents))
    ranks = np.empty(len(queries), np.int64)
    rows = max(1, _BLOCK // max(1, len(exemplars)))
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        cosine = queries[block] @ exemplars.T
        own = wanted[block, None] == offered[None, :]
        best = np.where(own, cosine, -np.inf).max(axis=1, keepdims=True)
        ranks[block] = 1 + np.count_nonzero((cosine >= best) & ~own, axis=1)
    return ranks


def summary(ranks: NDArray[np.integer]) -> dict[str, float]:
    """Return top-1, the share of rank 1, and the mean reciprocal rank (MRR) of `first_ranks`."""
    return {"top1": float(np.mean(ranks == 1)), "mrr": float(np.mean(1.0 / ranks))}


def _refuse_unknown(queries: Sequence[str], exemplars: Sequence[str], where: str, there: str) -> None:
    known = set(exemplars)
    unknown = list(dict.fromkeys(intent for intent in queries if intent not in known))
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        names = ", ".join(map(repr, unknown[:_NAMED]))
        raise InvalidPairsError(
            f"{where}{len(unknown)} intents of queries have no exemplar{there}: {names}{more}; add exemplars or remove "
            "these queries"
        )
