"""What a table's name and its first bytes tell about how it is written."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

Format = Literal["csv", "jsonl"]

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_RECORDS = 100


def format_of(path: str | Path) -> Format:
    """The format that a file's suffix tells: JSONL for ``.jsonl`` and ``.ndjson``, gzipped or not, else CSV."""
    name = Path(path).name.lower().removesuffix(".gz")
    return "jsonl" if name.endswith((".jsonl", ".ndjson")) else "csv"


def delimiter_of(path: str | Path, head: bytes, encoding: str) -> str:
    """The delimiter of a CSV file: a tab for ``.tsv``, else what splits its first records into as many fields each.

    Among several that do it is the one that makes most fields, and a comma where none makes two.

    Args:
        path: the file's name.
        head: the first bytes of the file, which may end anywhere.
        encoding: of the file.
    """
    if Path(path).name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    text = head.decode(encoding, errors="replace")
    best, most = ",", (0.0, 1)
    for candidate in _DELIMITERS:
        widths = _widths(text, candidate)
        if widths and widths[0] > 1:
            found = widths.count(widths[0]) / len(widths), widths[0]
            if found > most:
                best, most = candidate, found
    return best


def _widths(text: str, delimiter: str) -> list[int]:
    """Numbers of fields of the first records, but for the last one, which may be cut."""
    widths = []
    try:
        for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if fields:
                widths.append(len(fields))
            if len(widths) > _SAMPLE_RECORDS:
                break
    except csv.Error:
        return []
    return widths[:-1] or widths
