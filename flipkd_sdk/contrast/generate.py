"""Contrast pairs: a text and its copy with one small change, of meaning or of form."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.contrast.details import with_details
from flipkd_sdk.contrast.nouns import mine_nouns, other_noun
from flipkd_sdk.contrast.numbers import other_amount, other_date, other_number_format
from flipkd_sdk.contrast.rewriting import exchanged, rewritten
from flipkd_sdk.contrast.surface import other_case, other_punctuation, with_typo
from flipkd_sdk.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from flipkd_sdk.contrast.pack import LanguagePack

    Change = Callable[[str, np.random.Generator], str | None]

MAX_CHARACTERS = 240
"""Longer texts are left out: one changed word decides little about the meaning of a page."""
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class ContrastPair:
    """Two texts that differ in one small thing."""

    text_a: str
    text_b: str
    label: int
    """1 if the change leaves the meaning, 0 if it does not."""
    kind: str
    """Name of the change, such as ``negation``."""


@dataclass(frozen=True, slots=True)
class ContrastSet:
    """Contrast pairs made from some texts."""

    pairs: tuple[ContrastPair, ...]
    left_out: int
    """Pairs left out because the user's labels call them a match."""

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of pairs by kind."""
        return dict(sorted(Counter(pair.kind for pair in self.pairs).items()))

    def examples(self, n: int) -> tuple[ContrastPair, ...]:
        """Return the first pairs of each kind, at most n of each."""
        seen: Counter[str] = Counter()
        chosen = []
        for pair in self.pairs:
            seen[pair.kind] += 1
            if seen[pair.kind] <= n:
                chosen.append(pair)
        return tuple(chosen)


def contrast_pairs(
    texts: Iterable[str],
    pack: LanguagePack,
    *,
    per_kind: int,
    seed: int,
    labelled_matches: Iterable[tuple[str, str]] = (),
    kinds: Collection[str] | None = None,
    second_change: float = 0.0,
    details: bool = False,
) -> ContrastSet:
    """Make contrast pairs from texts by the rules of a language pack.

    The pairs of each kind come from as many different texts as there are: a text is used again only where all others
    have been tried. Which side is changed is drawn. No pair is made twice, and none has two texts that are equal but
    for white space; texts of a non-match also differ in more than case and punctuation.

    Args:
        texts: the user's own texts. Repeated ones count once; blank ones and those above 240 characters are left out.
        pack: rules of the language, see `load_pack`.
        per_kind: most pairs of each kind; fewer are made where the texts have no place for the change.
        seed: the same texts, pack and seed give the same pairs.
        labelled_matches: the user's pairs with label 1. A contrast pair that is among them, in either direction or
            by way of a third text, is left out and counted.
        kinds: kinds to make; by default all of the pack.
        second_change: share of the pairs, of either label, whose changed text is changed once more in a way that
            leaves the meaning. So the number of differences does not give the label away.
        details: also change copies of the texts to which the pack's details have been added.

    Raises:
        ConfigError: ``kinds`` has an unknown name, ``per_kind`` or ``seed`` is below 0, or ``second_change`` is
            outside [0, 1].

    Example:
        >>> from flipkd_sdk.contrast import load_pack
        >>> contrast_pairs(["Send 500 EUR"], load_pack("en"), per_kind=1, seed=0, kinds=["amount"]).counts
        {'amount': 1}
    """
    _check_options(per_kind, seed, second_change)
    wanted = _chosen_kinds(pack, kinds)
    harmless = [kind for kind, label in sorted(pack.labels.items()) if label == 1] if second_change else []
    usable = [text for text in dict.fromkeys(texts) if text.strip() and len(text) <= MAX_CHARACTERS]
    changes = _changes(usable, pack, sorted({*wanted, *harmless}))
    if details:
        usable += with_details(usable, pack.details, np.random.default_rng([seed, len(usable)]))
    same = _MatchGroups(labelled_matches)
    used: set[frozenset[str]] = set()
    pairs: list[ContrastPair] = []
    left_out = 0
    for kind in wanted:
        # Each kind has random numbers of its own, so that switching one off leaves the others as they are.
        rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
        made = 0
        for text, changed in _changed_texts(usable, changes[kind], rng):
            if made == per_kind:
                break
            label = pack.labels[kind]
            if not _differ(text, changed, label) or frozenset((text, changed)) in used:
                continue
            used.add(frozenset((text, changed)))
            if same.contain(text, changed):
                left_out += 1
                continue
            made += 1
            if harmless and rng.random() < second_change:
                again = _changed_again(text, changed, [changes[other] for other in harmless if other != kind], rng)
                changed = changed if same.contain(text, again) else again
            a, b = (text, changed) if rng.random() < 0.5 else (changed, text)
            pairs.append(ContrastPair(a, b, label, kind))
    return ContrastSet(tuple(pairs), left_out)


def _check_options(per_kind: int, seed: int, second_change: float) -> None:
    if per_kind < 0:
        raise ConfigError(f"per_kind={per_kind}: expected 0 or more contrast pairs of each kind")
    if seed < 0:
        raise ConfigError(f"seed={seed}: expected 0 or more")
    if not 0 <= second_change <= 1:
        raise ConfigError(f"second_change={second_change}: expected a share in [0, 1]")


def _chosen_kinds(pack: LanguagePack, kinds: Collection[str] | None) -> list[str]:
    known = pack.labels
    unknown = sorted(set(kinds or ()) - set(known))
    if unknown:
        raise ConfigError(
            f"contrast kind {unknown[0]!r}: language pack {pack.language!r} has none of that name; "
            f"expected some of {', '.join(sorted(known))}"
        )
    return sorted(known if kinds is None else set(kinds))


def _changes(texts: list[str], pack: LanguagePack, kinds: list[str]) -> dict[str, list[Change]]:
    changes: dict[str, list[Change]] = {kind: [] for kind in kinds}

    def add(kind: str, change: Change) -> None:
        if kind in changes:
            changes[kind].append(change)

    add("amount", lambda text, rng: other_amount(text, pack, rng))
    add("date", lambda text, rng: other_date(text, pack, rng))
    add("number_format", lambda text, rng: other_number_format(text, pack, rng))
    add("case", other_case)
    add("punctuation", other_punctuation)
    if "noun" in changes and pack.nouns is not None:
        index = mine_nouns(texts, pack)
        add("noun", lambda text, rng: other_noun(text, index, pack, rng))
    if "typo" in changes:
        vocabulary = frozenset(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))
        kept = frozenset(
            word for rule in pack.exchanges if rule.label == 0 for term in rule.others for word in term.split()
        )
        add("typo", lambda text, rng: with_typo(text, vocabulary, kept, rng))
    for exchange in pack.exchanges:
        add(exchange.kind, lambda text, rng, rule=exchange: exchanged(text, rule, pack, rng))  # type: ignore[misc]
    for rewrite in pack.rewrites:
        add(rewrite.kind, lambda text, rng, rule=rewrite: rewritten(text, rule, pack, rng))  # type: ignore[misc]
    return changes


def _changed_texts(texts: list[str], changes: list[Change], rng: np.random.Generator) -> Iterable[tuple[str, str]]:
    """Yield each text with one change, then with another one, drawing texts and changes."""
    remaining = np.arange(len(texts))
    for _ in range(_ROUNDS):
        changeable = []
        for i in rng.permutation(remaining):
            for j in rng.permutation(len(changes)):
                changed = changes[j](texts[i], rng)
                if changed is not None:
                    changeable.append(i)
                    yield texts[i], changed
                    break
        # A text without a place for the change has none in the next round either.
        remaining = np.array(changeable, np.int64)


def _changed_again(text: str, changed: str, harmless: list[list[Change]], rng: np.random.Generator) -> str:
    """Return a changed text with a second change that leaves its meaning, if there is a place for one."""
    for i in rng.permutation(len(harmless)):
        for j in rng.permutation(len(harmless[i])):
            again: str | None = harmless[i][j](changed, rng)
            # The second change may undo the first one.
            if again is not None and _normalized(again) not in (_normalized(text), _normalized(changed)):
                return again
    return changed


def _normalized(text: str) -> str:
    return " ".join(text.split())


def _bare(text: str) -> str:
    """Return a text without case, white space and the marks that carry no meaning."""
    return "".join(
        sign for sign in unicodedata.normalize("NFKC", text).casefold() if sign.isalnum() or sign in "%€$£¥+-<>=°.,:/"
    ).strip(".,:-")


def _differ(text: str, changed: str, label: int) -> bool:
    if not changed.strip() or _normalized(text) == _normalized(changed):
        return False
    return label == 1 or _bare(text) != _bare(changed)


class _MatchGroups:
    """Texts that the user's labels call the same, directly or by way of other texts."""

    def __init__(self, matches: Iterable[tuple[str, str]]) -> None:
        self._parent: dict[str, str] = {}
        for a, b in matches:
            self._parent[self._root(_key(a))] = self._root(_key(b))

    def _root(self, key: str) -> str:
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = key = self._parent[self._parent[key]]  # Halving the path keeps later walks short.
        return key

    def contain(self, a: str, b: str) -> bool:
        """Return whether two texts are in one group."""
        a, b = _key(a), _key(b)
        return a != b and a in self._parent and b in self._parent and self._root(a) == self._root(b)


def _key(text: str) -> str:
    return _normalized(text).casefold()
