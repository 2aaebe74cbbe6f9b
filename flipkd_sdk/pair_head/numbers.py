"""Numbers of a text in digits and in words, as numbers: "2,000", "2k" and "two thousand" are one number."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NUMBER = r"\d+(?:[.,'\u00a0\u202f ]\d{3}(?!\d))*(?:[.,]\d+)?"
"""Regular expression of a number in digits, with thousands separators and decimals."""

_SEPARATOR = re.compile(r"['\u00a0\u202f ]|[.,](?=\d{3}(?!\d))")
_TEN, _HUNDRED, _LARGEST = Decimal(10), Decimal(100), Decimal(10**15)


def numbers_among(words: Iterable[str], values: Mapping[str, Decimal]) -> Iterator[str]:
    """Yield the numbers among words, in digits without separators, leading zeros and trailing decimal zeros.

    Args:
        words: words and numbers of a text, in order, without case.
        values: value of each number word; those from 100 on multiply.

    Example:
        >>> values = {"two": Decimal(2), "hundred": Decimal(100), "fifty": Decimal(50)}
        >>> list(numbers_among("two hundred and fifty or 1,000.50".split(), values))
        ['250', '1000.5']
    """
    number: _Number | None = None
    for word in words:
        named = values.get(word)
        if number is not None and ((named is not None and number.goes_on(named)) or number.joined_by(word)):
            continue
        if number is not None:
            yield from number.written()
        if named is not None:
            number = _Number(named, spelled=True)
        else:
            number = _Number(_literal(word), spelled=False) if word[0].isdecimal() else None
    if number is not None:
        yield from number.written()


class _Number:
    """A number that is read word by word, as in "five thousand two hundred and twenty five" or "2 million"."""

    def __init__(self, value: Decimal, *, spelled: bool) -> None:
        self._done = Decimal(0)
        self._value = value
        self._spelled = spelled

    def goes_on(self, named: Decimal) -> bool:
        """Take a further number word, or return False if it begins another number."""
        if self._done + self._value >= _LARGEST:
            return False
        units = self._value % _HUNDRED
        if named > _HUNDRED:
            self._done, self._value = self._done + self._value * named, Decimal(0)
        elif named == _HUNDRED:
            self._value *= named
        elif self._spelled and (self._hundreds() if not units else named < _TEN < units and not units % _TEN):
            self._value += named
        else:
            return False
        return True

    def joined_by(self, word: str) -> bool:
        """Return True if a word stands between the parts of the number."""
        return word == "and" and self._spelled and self._hundreds()

    def written(self) -> tuple[str, ...]:
        """Return the number in digits, or nothing for the word "one", which is a pronoun more often than a number."""
        total = self._done + self._value if self._done else self._value  # A sum rounds long numbers.
        if self._spelled and total == 1:
            return ()
        whole, _, decimals = f"{total:f}".partition(".")
        decimals = decimals.rstrip("0")
        return (whole + (f".{decimals}" if decimals else ""),)

    def _hundreds(self) -> bool:
        return self._done > 0 or self._value >= _HUNDRED


def _literal(digits: str) -> Decimal:
    return Decimal(_SEPARATOR.sub("", digits).replace(",", "."))
