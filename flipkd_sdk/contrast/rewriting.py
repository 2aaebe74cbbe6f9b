"""Changes of a text by the rules of a language pack."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from flipkd_sdk.contrast.pack import Exchange, LanguagePack, Rewrite

_SLOT = re.compile(r"\{([a-z_]+)(?::([a-z_]+))?\}")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


def exchanged(text: str, rule: Exchange, pack: LanguagePack, rng: np.random.Generator) -> str | None:
    """Replace one term by another one of its set, or return None if no term is found."""
    found = [match for match in rule.pattern.finditer(text) if not is_protected(pack, text, *match.span("term"))]
    if not found:
        return None
    match = found[int(rng.integers(len(found)))]
    others = rule.others.get(match["term"].casefold(), ())
    if not others:
        return None
    other = others[int(rng.integers(len(others)))]
    start, end = match.span("term")
    return text[:start] + in_case_of(match["term"], other) + text[end:]


def rewritten(text: str, rule: Rewrite, pack: LanguagePack, rng: np.random.Generator) -> str | None:
    """Apply a rewrite rule at one place, or return None if the rule does not apply."""
    spans = [(0, len(text))] if rule.whole_text else sentence_spans(text)
    found = []
    for start, end in spans:
        sentence = text[start:end]
        match = rule.pattern.search(sentence)
        if match is None or (rule.unless is not None and rule.unless.search(sentence)):
            continue
        if match.end() > match.start() and is_protected(pack, text, start + match.start(), start + match.end()):
            continue
        template = rule.replace[int(rng.integers(len(rule.replace)))]
        replacement = _filled(template, match, pack.forms)
        if replacement is not None:
            changed = sentence[: match.start()] + replacement + sentence[match.end() :]
            found.append(text[:start] + _start_as(sentence, changed) + text[end:])
    return found[int(rng.integers(len(found)))] if found else None


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return start and end of each sentence, without the white space between them."""
    start = 0
    spans = []
    for gap in _SENTENCE_END.finditer(text):
        spans.append((start, gap.start()))
        start = gap.end()
    spans.append((start, len(text)))
    return [(start, end) for start, end in spans if end > start]


def is_protected(pack: LanguagePack, text: str, start: int, end: int) -> bool:
    """Return whether a span overlaps an idiom that the pack protects."""
    if pack.protected is None:
        return False
    return any(match.start() < end and start < match.end() for match in pack.protected.finditer(text))


def in_case_of(old: str, new: str) -> str:
    """Return a term written in capitals, capitalized or as it is, like the one that it replaces.

    Example:
        >>> in_case_of("Open", "close"), in_case_of("OPEN", "close"), in_case_of("open", "Monday")
        ('Close', 'CLOSE', 'Monday')
    """
    if len(old) > 1 and old.isupper():
        return new.upper()
    if old[:1].isupper():
        return new[:1].upper() + new[1:]
    return new


def _filled(template: str, match: re.Match[str], forms: Mapping[str, Mapping[str, str]]) -> str | None:
    missing = False

    def slot(found: re.Match[str]) -> str:
        nonlocal missing
        word = match[found[1]] or ""
        if not found[2]:
            return word
        if found[2] == "lower":
            return word.lower()
        form = forms[found[2]].get(word.casefold())
        missing |= form is None
        return form or ""

    text = _SLOT.sub(slot, template)
    return None if missing else text


def _start_as(sentence: str, changed: str) -> str:
    """Return a changed sentence with the case of the first letter that it had before."""
    first = re.match(r"[A-Za-z]+", sentence)
    if first is None or first[0] == "I":
        return changed if first is None else changed[:1].upper() + changed[1:]
    if first[0][0].isupper():
        return changed[:1].upper() + changed[1:]
    # A pronoun "I" that moved to the front stays a capital.
    return changed if re.match(r"I\b", changed) else changed[:1].lower() + changed[1:]
