r"""Regular expressions of a tokenizer file: those whose running time is linear in the text.

A regular expression that backtracks can take hours for a line of text. Accepted are alternatives of plain characters,
classes, escapes and groups of those, in which nothing mandatory follows a repetition without an end. Such a repetition
never has to give characters back. Two forms of real tokenizers do give some back: ``\s+(?!\S)``, at most one, and
``\s*[\r\n]+``. In the second form the next alternative must take the same characters, here ``\s+``, so that they are
read twice at most.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

_MAX_LENGTH = 4096
"""Four times the longest known."""
_MAX_COUNT = 32
_MAX_WAYS = 64
"""Ways in which the optional parts of an alternative can match; each is tried at every character."""

_ESCAPE = r"\\(?:[pP]\{\^?\w{1,40}\}|[rntfvsSdDwWh]|x\{[0-9A-Fa-f]{1,6}\}|u[0-9A-Fa-f]{4}|[^\w\s])"
_MEMBER = rf"(?:{_ESCAPE}|[^\\\[\]])"
_CLASS = rf"\[\^?(?:{_MEMBER}|\[\^?{_MEMBER}+\])+\]"
_UNIT = rf"(?:{_CLASS}|{_ESCAPE}|[^\\\[\](){{}}?*+|^$])"
_GROUP = rf"\((?:\?i?:)?{_UNIT}+(?:\|{_UNIT}+)*\)"
_COUNT = r"(?P<sign>[?*+])\+?|\{(?P<low>\d{1,4})(?P<comma>,(?P<high>\d{1,4})?)?\}"
_ITEM = re.compile(rf"(?P<unit>{_GROUP}|{_UNIT})(?:{_COUNT})?")
_SIGNS = {"?": (0, 1), "*": (0, None), "+": (1, None)}
_NOT_BEFORE_TEXT = r"\s+(?!\S)"


class _Item(NamedTuple):
    unit: str
    low: int
    high: int | None


def refuse_slow_pattern(pattern: str) -> None:
    """Check that a regular expression matches at least one character, in time linear in the text.

    Raises:
        ValueError: it may not, or it uses a form that is not in the list above.
    """
    if len(pattern) > _MAX_LENGTH:
        raise ValueError(f"a regular expression of {len(pattern)} characters; at most {_MAX_LENGTH} are accepted")
    alternatives = _alternatives(pattern)
    for i, items in enumerate(alternatives):
        if not any(item.low for item in items):
            raise ValueError(f"the regular expression {_shown(pattern)} matches nothing at all")
        ways = math.prod((item.high or item.low) - item.low + 1 for item in items)
        groups = sum(item.unit.startswith("(") for item in items)
        if ways > _MAX_WAYS or groups > 2 or not (_is_greedy(items) or _is_retaken(items, alternatives[i + 1 :])):
            raise ValueError(f"the regular expression {_shown(pattern)} could take time beyond the text's length")


def _alternatives(pattern: str) -> list[list[_Item]]:
    """Split a regular expression at its bars and each alternative into items."""
    alternatives: list[list[_Item]] = [[]]
    position = 0
    while position < len(pattern):
        if pattern[position] == "|":
            alternatives.append([])
            position += 1
            continue
        if not alternatives[-1] and re.match(r"\\s\+\(\?!\\S\)(?:\||$)", pattern[position:]):
            alternatives[-1].append(_Item(r"\s", 1, None))
            position += len(_NOT_BEFORE_TEXT)
            continue
        found = _ITEM.match(pattern, position)
        if found is None:
            raise ValueError(
                f"the regular expression {_shown(pattern)} uses a form that is not accepted, at character {position}"
            )
        alternatives[-1].append(_item(found, pattern))
        position = found.end()
    return alternatives


def _item(found: re.Match[str], pattern: str) -> _Item:
    unit, sign = found["unit"], found["sign"]
    low: int
    high: int | None
    if sign:
        low, high = _SIGNS[sign]
    elif found["low"]:
        low = int(found["low"])
        high = low if not found["comma"] else int(found["high"]) if found["high"] else None
    else:
        low = high = 1
    if max(low, high or 0) > _MAX_COUNT or (unit.startswith("(") and high != 1):
        raise ValueError(f"the regular expression {_shown(pattern)} repeats too much: {_shown(found[0])}")
    return _Item(unit, low, high)


def _is_greedy(items: list[_Item]) -> bool:
    """Return True if nothing mandatory follows a repetition without an end."""
    first = next((i for i, item in enumerate(items) if item.high is None), len(items))
    return all(item.low == 0 for item in items[first + 1 :])


def _is_retaken(items: list[_Item], later: list[list[_Item]]) -> bool:
    """Return True for ``xA*B+`` with optional parts behind, if ``xA+`` with optional parts behind comes later."""
    first = next(i for i, item in enumerate(items) if item.high is None)
    mandatory, rest = items[first + 1], items[first + 2 :]
    if mandatory.low != 1 or mandatory.unit.startswith("(") or any(item.low for item in rest):
        return False
    start = [*items[:first], _Item(items[first].unit, 1, None)]
    return any(other[: first + 1] == start and _is_greedy(other) for other in later)


def _shown(pattern: str) -> str:
    return ascii(pattern if len(pattern) <= 60 else f"{pattern[:57]}...")
