"""Files of contrast pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.contrast.generate import ContrastPair
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.tables.reader import open_records

if TYPE_CHECKING:
    from pathlib import Path


def read_contrast_pairs(path: str | Path) -> tuple[ContrastPair, ...]:
    """Read pairs from CSV or JSONL with the columns text_a, text_b, label and kind.

    Raises:
        InvalidPairsError: the file cannot be used; the message names the line and the column.
    """
    pairs = []
    with open_records(path) as records:
        a, b, label, kind = (records.column(name) for name in ("text_a", "text_b", "label", "kind"))
        for record in records.rows:
            value = str(records.value(record, label))
            if value not in ("0", "1"):
                raise InvalidPairsError(
                    f"{records.source}:{record.line}: column {label!r}: label {value[:60]!r}; expected 0 or 1"
                )
            name = records.text(record, kind)
            if not name.strip():
                raise InvalidPairsError(f"{records.source}:{record.line}: column {kind!r}: empty; expected a kind")
            pairs.append(ContrastPair(records.text(record, a), records.text(record, b), int(value), name))
    if not pairs:
        raise InvalidPairsError(f"{path}: no pairs; expected at least one")
    return tuple(pairs)
