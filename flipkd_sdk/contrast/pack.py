"""A language pack: the words and rules of one language."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

# Kinds made by code rather than by the rules of a pack, with their labels.
BUILT_IN_KINDS = {"amount": 0, "date": 0, "noun": 0, "case": 1, "punctuation": 1, "typo": 1, "number_format": 1}


@dataclass(frozen=True, slots=True)
class Exchange:
    """Rule that replaces a term by another one of its set."""

    kind: str
    label: int
    pattern: re.Pattern[str]
    """Finds a term, in the group ``term``."""
    others: Mapping[str, tuple[str, ...]]
    """Replacements by case-folded term."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Rule that rewrites what a regular expression finds."""

    kind: str
    label: int
    pattern: re.Pattern[str]
    replace: tuple[str, ...]
    """Templates with ``{group}`` or ``{group:form}``, of which one is drawn."""
    unless: re.Pattern[str] | None = None
    """The rule does not apply where this is found."""
    whole_text: bool = False
    """The rule reads the text at once rather than sentence by sentence."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Number formats and number words."""

    thousands: str = ","
    decimal: str = "."
    words: tuple[str, ...] = ()
    """Words of the integers from zero."""
    counted: re.Pattern[str] | None = None
    """Find a noun after a number that is written as a word, so that it counts something."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Value by number word, for the pair head's cues; those from 100 on multiply."""


@dataclass(frozen=True, slots=True)
class Nouns:
    """Limits of the search for nouns of the same kind."""

    before: frozenset[str] = frozenset()
    """Words before a noun; only for languages with spaces."""
    never: frozenset[str] = frozenset()
    """Words that are never exchanged; without spaces, characters that no noun contains."""
    synonyms: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True, slots=True)
class Details:
    """Details that are added to texts, so that there is more to change in them."""

    endings: tuple[str, ...] = ()
    """Templates with ``{list}``; those that begin with a space go before the final mark, others after the text."""
    alone: tuple[str, ...] = ()
    """Templates of texts of their own."""
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words by name of a list."""


@dataclass(frozen=True, slots=True)
class LanguagePack:
    """Rules of one language."""

    language: str
    spaced: bool
    """True if words are separated by spaces."""
    kinds_off: frozenset[str] = frozenset()
    protected: re.Pattern[str] | None = None
    """Idioms in which nothing is changed."""
    numbers: Numbers = field(default_factory=Numbers)
    dates: tuple[re.Pattern[str], ...] = ()
    """Patterns with the groups year, month, day, hour and minute."""
    nouns: Nouns | None = None
    negators: tuple[str, ...] = ()
    """Words that negate, for the pair head's cues."""
    details: Details = field(default_factory=Details)
    exchanges: tuple[Exchange, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    forms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Form by name and case-folded word."""

    @property
    def rules(self) -> tuple[Exchange | Rewrite, ...]:
        """Return all rules of the pack."""
        return (*self.exchanges, *self.rewrites)

    @property
    def labels(self) -> dict[str, int]:
        """Return the label of every kind that the pack makes."""
        rules = {rule.kind: rule.label for rule in self.rules}
        return {kind: label for kind, label in (BUILT_IN_KINDS | rules).items() if kind not in self.kinds_off}
