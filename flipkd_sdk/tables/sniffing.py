"""Detection of a table's format and delimiter from its name and its first bytes."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Literal

Format = Literal["csv", "jsonl"]

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_RECORDS = 100
_DELIMITER_LINE = re.compile(r"""\ufeff?"?sep=(?=[\t -~])([^\w"'.\r\n-])"?(?:\r\n|\r|\n|$)""", re.ASCII)
"""First line that declares the delimiter to Excel."""


def format_of(path: str | Path) -> Format:
    """Return the format that a suffix names: JSONL for ``.jsonl`` and ``.ndjson``, gzipped or not, else CSV."""
    name = Path(path).name.lower().removesuffix(".gz")
    return "jsonl" if name.endswith((".jsonl", ".ndjson")) else "csv"


def delimiter_line(line: str) -> str | None:
    """Return the delimiter that a line like ``sep=;`` declares, or None for any other line."""
    declared = _DELIMITER_LINE.match(line)
    return declared[1] if declared else None


def delimiter_of(path: str | Path, head: bytes, encoding: str) -> str:
    """Detect the delimiter of a CSV file.

    A line ``sep=;`` at the top and the suffix ``.tsv`` decide. Otherwise it is the delimiter that splits the first
    records into equally many fields; among several, the one that makes most fields; a comma if none makes two.

    Args:
        path: the file's name.
        head: the first bytes of the file, which may end anywhere.
        encoding: of the file.
    """
    try:
        text = head.decode(encoding, errors="replace")
    except (LookupError, ValueError):
        return ","  # The reader reports the encoding.
    if declared := delimiter_line(text):
        return declared
    if Path(path).name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    best, most = ",", (0.0, 1)
    for candidate in _DELIMITERS:
        widths = _widths(text, candidate)
        if widths and widths[0] > 1:
            rating = widths.count(widths[0]) / len(widths), widths[0]
            if rating > most:
                best, most = candidate, rating
    return best


def _widths(text: str, delimiter: str) -> list[int]:
    """Return the numbers of fields of the first records, except the last one, which may be cut."""
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
