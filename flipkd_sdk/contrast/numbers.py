"""Changes of numbers, dates and times, and other ways of writing the same number."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flipkd_sdk.contrast.rewriting import in_case_of, is_protected

if TYPE_CHECKING:
    import numpy as np

    from flipkd_sdk.contrast.pack import LanguagePack

# A number beside neither letters, which would make it a part of a name like B12, nor signs that make it a part of a
# date, a time, a range of codes or an address. Units of one to four small letters may follow.
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,:/#-])[0-9]+(?:[.,][0-9]+)*(?=(?:[a-z]{1,4}|[KMG]|EUR|USD|GBP)?(?![A-Za-z0-9_]))(?![:/-][A-Za-z0-9]|(?:st|nd|rd|th)\b)"
)
_DIGIT = re.compile("[0-9]")
_LIMITS = {"month": (1, 12), "day": (1, 28), "hour": (1, 12), "minute": (0, 59)}


def other_amount(text: str, pack: LanguagePack, rng: np.random.Generator) -> str | None:
    """Change the value of one number."""
    if not _DIGIT.search(text):
        return None
    dates = [match.span() for pattern in pack.dates for match in pattern.finditer(text)]
    found = [
        match.span()
        for match in _NUMBER.finditer(text)
        if re.search("[1-9]", match[0])
        and not re.fullmatch("0*1", match[0])  # The noun after a one is singular.
        and not is_protected(pack, text, *match.span())
        and not any(start < match.end() and match.start() < end for start, end in dates)
    ]
    if not found:
        return None
    start, end = found[int(rng.integers(len(found)))]
    return text[:start] + _other_number(text[start:end], rng, scale=_may_scale(text, end, pack)) + text[end:]


def _may_scale(text: str, end: int, pack: LanguagePack) -> bool:
    """Return whether ten times the number makes sense: not for ages, durations and percentages."""
    counts = pack.numbers.counted is not None and pack.numbers.counted.match(text, end)
    return not counts and "%" not in text[end : end + 2]


def _other_number(number: str, rng: np.random.Generator, *, scale: bool) -> str:
    plain = number.isdigit() and not number.startswith("0")
    if plain and int(number) <= 12:
        choices = [str(value) for value in range(2, 13) if value != int(number)]
        return choices[int(rng.integers(len(choices)))]
    if plain and scale and len(number) <= 6 and rng.random() < 0.35:
        return number[:-1] if number.endswith("00") and rng.random() < 0.5 else number + "0"
    # One digit before the decimals changes, so that separators and the number of digits stay as they are.
    whole = re.split(r"[.,](?=[0-9]{1,2}$)", number)[0]
    places = [i for i, sign in enumerate(whole) if sign.isdigit()]
    places = [i for i in places if whole[i] != "0"] or list(range(len(number)))
    place = places[int(rng.integers(len(places)))]
    digits = [digit for digit in "23456789" if digit != number[place]]
    if not number[place].isdigit():
        return number + digits[int(rng.integers(len(digits)))]
    return number[:place] + digits[int(rng.integers(len(digits)))] + number[place + 1 :]


def other_date(text: str, pack: LanguagePack, rng: np.random.Generator) -> str | None:
    """Change one part of a date or a time."""
    if not _DIGIT.search(text):
        return None
    found = [
        (name, *match.span(name))
        for pattern in pack.dates
        for match in pattern.finditer(text)
        if not is_protected(pack, text, *match.span())
        for name, value in match.groupdict().items()
        if value and value.isascii() and value.isdigit()
    ]
    if not found:
        return None
    name, start, end = found[int(rng.integers(len(found)))]
    old = text[start:end]
    if name == "year":
        new = int(old) + int(rng.choice([-3, -2, -1, 1, 2, 3]))
    else:
        low, high = _LIMITS.get(name, (1, 28))
        choices = [value for value in range(low, high + 1) if value != int(old)]
        new = choices[int(rng.integers(len(choices)))]
    if new < 0:
        return None
    written = str(new).zfill(len(old)) if old.startswith("0") or name == "minute" else str(new)
    return text[:start] + written + text[end:]


def other_number_format(text: str, pack: LanguagePack, rng: np.random.Generator) -> str | None:
    """Write one number another way: separators, decimals, or as a word."""
    found = [
        (match.start(), match.end(), new)
        for match in _NUMBER.finditer(text)
        if not is_protected(pack, text, *match.span())
        for new in _formats(match[0], text[match.end() :], pack)
    ]
    if pack.numbers.words and pack.numbers.counted is not None:
        words = sorted(pack.numbers.words, key=len, reverse=True)
        edge = r"\b" if pack.spaced else ""
        for match in re.finditer(edge + "(?:" + "|".join(map(re.escape, words)) + ")" + edge, text, re.IGNORECASE):
            counts = pack.numbers.counted.match(text, match.end())
            if counts and not is_protected(pack, text, *match.span()):
                values = {word.casefold(): str(value) for value, word in enumerate(pack.numbers.words)}
                value = values.get(match[0].casefold())
                found += [(match.start(), match.end(), value)] if value else []
    if not found:
        return None
    start, end, new = found[int(rng.integers(len(found)))]
    return text[:start] + in_case_of(text[start:end], new) + text[end:]


def _formats(number: str, after: str, pack: LanguagePack) -> list[str]:
    numbers = pack.numbers
    formats = []
    if number.isdigit() and not number.startswith("0"):
        if 4 <= len(number) <= 7 and not re.fullmatch(r"(?:19|20)\d\d", number):
            formats.append(f"{int(number):,}".replace(",", numbers.thousands))
        counted = numbers.counted is not None and numbers.counted.match(after)
        if counted and int(number) < len(numbers.words):
            formats.append(numbers.words[int(number)])
    elif re.fullmatch(rf"\d{{1,3}}(?:{re.escape(numbers.thousands)}\d{{3}})+", number):
        formats.append(number.replace(numbers.thousands, ""))
    elif re.fullmatch(rf"\d+{re.escape(numbers.decimal)}0+", number):
        formats.append(number.split(numbers.decimal)[0])
    return formats
