"""Kinds of pairs: their column in a table, and the pairs that ``flipkd check`` makes or reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flipkd_sdk.contrast import contrast_pairs, detect_language, languages, load_pack, read_contrast_pairs
from flipkd_sdk.contrast.generate import ContrastPair
from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation.behaviour import check_behaviour
from flipkd_sdk.pairs import read_pairs, read_texts
from flipkd_sdk.tables.reader import open_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flipkd_sdk.cli.evaluation.comparison import Scoring
    from flipkd_sdk.evaluation.behaviour import Behaviour
    from flipkd_sdk.pairs import Pairs

_PAIR_COLUMNS = ("text_a", "text_b", "label")
_KIND_COLUMN = "kind"
_NO_KIND = "no kind"
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class KindPairs:
    """Pairs of known kinds and a description of their origin."""

    pairs: tuple[ContrastPair, ...]
    origin: str


def kind_pairs(path: str, *, text_column: str | None, rules: str | None, per_kind: int, seed: int) -> KindPairs:
    """Read pairs of known kinds, or make contrast pairs from the texts of a table.

    Args:
        path: CSV or JSONL with the columns text_a, text_b, label and kind, whose pairs are used as they are; with the
            first three, whose texts are used; or with a column of texts. Also a ``.txt`` file with a text per line.
        text_column: column of the texts; by default as above, else ``text``.
        rules: language or file of a language pack; by default the language is detected.
        per_kind: most pairs made of each kind.
        seed: the same texts, rules and seed give the same pairs.

    Raises:
        InvalidPairsError: the table cannot be used.
        ConfigError: there is no language pack, or pairs with kinds were given rules.
    """
    found = () if text_column is not None else _columns(path)
    if {*_PAIR_COLUMNS, _KIND_COLUMN} <= set(found):
        if rules is not None:
            raise ConfigError(
                f"{path}: contains pairs with their kinds, which need no language; leave out --language and --pack, "
                "or name a column of texts with --text-column"
            )
        return KindPairs(read_contrast_pairs(path), "read from the table")
    matches: list[tuple[str, str]] = []
    if set(_PAIR_COLUMNS) <= set(found):
        pairs = read_pairs(path)
        texts: Sequence[str] = pairs.texts
        matches = [(a, b) for a, b, label in zip(pairs.a, pairs.b, pairs.label.tolist(), strict=True) if label]
    else:
        texts = read_texts(path, column=text_column or "text")
    language = rules or detect_language(texts)
    if language is None:
        raise ConfigError(
            f"{path}: the language of the texts was not detected; name one with --language "
            f"({', '.join(languages())}), or a language pack with --pack FILE"
        )
    made = contrast_pairs(texts, load_pack(language), per_kind=per_kind, seed=seed, labelled_matches=matches)
    left_out = f"; {made.left_out:,} left out, which are labelled matches" if made.left_out else ""
    origin = f"made from {len(set(texts)):,} texts by the rules of {language}{left_out}"
    return KindPairs(made.pairs, origin)


def behaviour_of(scoring: Scoring, pairs: Pairs, kinds: Sequence[str]) -> Behaviour:
    """Return the pass rates of scored pairs by kind."""
    columns = zip(pairs.a, pairs.b, pairs.label.tolist(), kinds, strict=True)
    named = [ContrastPair(a, b, label, kind) for a, b, label, kind in columns]
    return check_behaviour(named, lambda _: scoring.probability, threshold=scoring.threshold, examples=_EXAMPLES)


def read_kinds(path: str, column: str | None, *, delimiter: str | None, encoding: str) -> list[str] | None:
    """Return the kind of each pair in a table, or None if it has no such column.

    Args:
        path: the table.
        column: its column of kinds; None for ``kind`` if there is one.
        delimiter: as for `open_records`.
        encoding: as for `open_records`.

    Raises:
        InvalidPairsError: the column is missing.
    """
    with open_records(path, delimiter=delimiter, encoding=encoding) as records:
        if column is None and _KIND_COLUMN not in records.columns:
            return None
        name = records.column(column or _KIND_COLUMN)
        return [records.text(record, name).strip() or _NO_KIND for record in records.rows]


def _columns(path: str) -> tuple[str, ...]:
    if Path(path).suffix.lower() == ".txt":
        return ()
    with open_records(path) as records:
        return records.columns
