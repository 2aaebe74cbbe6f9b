"""Draw unlabelled in-domain sentences from a small context-free grammar in a data file."""

import random
import re
import tomllib
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeAlias

ROOT = "sentence"
LOWER_CASE_RATE = 0.35
TYPO_RATE = 0.15
MAX_MISSES = 10_000

_SLOT = re.compile(r"\{(\w+)\}")
_SENTENCE_START = re.compile(r"(?:^|[.!?] )[a-z]")
_LONG_WORD = re.compile(r"[A-Za-z]{4,}")

Grammar: TypeAlias = Mapping[str, tuple[str, ...]]


def load_grammar(path: str | Path) -> Grammar:
    """Read a grammar from a TOML file and check that every expansion from `sentence` is defined and ends.

    The tables of the file only group symbols, so their names are dropped. Raises ValueError for a malformed
    table, a symbol defined twice, a slot that nothing defines, or a cycle.
    """
    grammar: dict[str, tuple[str, ...]] = {}
    for section, symbols in tomllib.loads(Path(path).read_text(encoding="utf-8")).items():
        if not (isinstance(symbols, dict) and symbols):
            raise ValueError(f"{path}: {section!r} must be a non-empty table of symbols")
        for symbol, alternatives in symbols.items():
            if symbol in grammar:
                raise ValueError(f"{path}: symbol {symbol!r} is defined twice")
            if not (isinstance(alternatives, list) and alternatives and all(isinstance(a, str) for a in alternatives)):
                raise ValueError(f"{path}: symbol {symbol!r} must be a non-empty list of strings")
            grammar[symbol] = tuple(alternatives)
    if ROOT not in grammar:
        raise ValueError(f"{path}: the start symbol {ROOT!r} is not defined")
    slots = {symbol: set(_SLOT.findall(" ".join(alternatives))) for symbol, alternatives in grammar.items()}
    for symbol, used in slots.items():
        if undefined := sorted(used - grammar.keys()):
            raise ValueError(f"{path}: symbol {symbol!r} uses undefined slots: {', '.join(undefined)}")
    try:
        TopologicalSorter(slots).prepare()
    except CycleError as error:
        raise ValueError(f"{path}: symbols form a cycle: {' -> '.join(reversed(error.args[1]))}") from None
    return grammar


def sentences(grammar: Grammar, count: int, *, seed: int = 0) -> list[str]:
    """Return `count` sentences that are distinct even when case and final punctuation are ignored.

    Every slot is filled uniformly; as the start symbol lists the topics, topics come out evenly. Raises
    ValueError when the grammar stops yielding new sentences before `count` is reached.
    """
    rng = random.Random(seed)  # noqa: S311
    drawn: dict[str, str] = {}
    misses = 0
    while len(drawn) < count:
        text = _add_noise(_expand(grammar, ROOT, rng), rng)
        key = text.casefold().rstrip(".!?")
        misses = misses + 1 if key in drawn else 0
        drawn.setdefault(key, text)
        if misses > MAX_MISSES:
            raise ValueError(f"the grammar yields too few distinct sentences: {len(drawn)} of {count}")
    return list(drawn.values())


def _expand(grammar: Grammar, symbol: str, rng: random.Random) -> str:
    """Replace a symbol, and in turn every slot of the alternative drawn for it, and capitalise at the root."""
    text = _SLOT.sub(lambda slot: _expand(grammar, slot[1], rng), rng.choice(grammar[symbol]))
    return _SENTENCE_START.sub(lambda start: start[0].upper(), text) if symbol == ROOT else text


def _add_noise(text: str, rng: random.Random) -> str:
    """Turn some sentences to lower case and add a single typing error to some."""
    if rng.random() < LOWER_CASE_RATE:
        text = text.lower().rstrip(".!?")
    if rng.random() < TYPO_RATE and (words := list(_LONG_WORD.finditer(text))):
        word = rng.choice(words)
        at = rng.randrange(word.start() + 1, word.end() - 1)
        pair = text[at : at + 2]
        text = text[:at] + rng.choice((pair[::-1], pair[1], pair[0] + pair)) + text[at + 2 :]
    return text
