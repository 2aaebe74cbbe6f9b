"""Language packs read from TOML files, and checked."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from flipkd_sdk.contrast.pack import BUILT_IN_KINDS, Details, Exchange, LanguagePack, Nouns, Numbers, Rewrite
from flipkd_sdk.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KEYS = {
    "": {
        "language", "extends", "words", "kinds_off", "protected", "fragments", "lists", "inflections", "negators",
        "numbers", "dates", "nouns", "details", "exchange", "rewrite",
    },
    "inflections": {"columns", "rows"},
    "numbers": {"thousands", "decimal", "words", "counted", "values"},
    "dates": {"patterns"},
    "nouns": {"before", "never", "synonyms"},
    "details": {"endings", "alone"},
    "exchange": {"kind", "label", "sets", "lists", "pattern", "case_sensitive"},
    "rewrite": {"kind", "label", "pattern", "replace", "unless", "scope"},
}  # fmt: skip
_INTERPOLATED = re.compile(r"\{([a-z_]+)\}")
_LARGEST_VALUE = 1e12
_SLOT = re.compile(r"\{([a-z_]+)(?::([a-z_]+))?\}")


def languages() -> tuple[str, ...]:
    """Return the languages of the packs that come with flipkd_sdk.

    Example:
        >>> languages()
        ('en', 'zh')
    """
    files = (resources.files("flipkd_sdk.contrast") / "packs").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load_pack(source: str | Path) -> LanguagePack:
    """Load a language pack.

    Args:
        source: a language of `languages`, or the path of a TOML file. A file with ``extends = "en"`` adds to that
            pack; one without replaces it.

    Raises:
        ConfigError: the pack is missing or malformed; the message names the file and the key.
    """
    return _build(str(source), _read(str(source)))


def _read(source: str) -> dict[str, Any]:
    if source in languages():
        text = (resources.files("flipkd_sdk.contrast") / "packs" / f"{source}.toml").read_text("utf-8")
    else:
        try:
            text = Path(source).read_text("utf-8")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(
                f"{source}: no such language pack ({reason}); name one of {', '.join(languages())} or a TOML file"
            ) from error
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib also raises what int() and deep nesting raise.
        raise ConfigError(f"{source}: malformed TOML: {' '.join(str(error).split())}") from error
    _reject_unknown(source, table, "", "")
    base = table.pop("extends", None)
    if base is None:
        return table
    if base not in languages():
        raise ConfigError(f"{source}: extends: {base!r} is no pack of ours; name one of {', '.join(languages())}")
    return _merged(_read(str(base)), table, source, "")


def _merged(base: dict[str, Any], added: dict[str, Any], source: str, where: str) -> dict[str, Any]:
    """Merge tables key by key, append lists, and let other values replace."""
    merged = dict(base)
    for key, value in added.items():
        old = merged.get(key)
        if old is not None and type(old) is not type(value):
            raise ConfigError(f"{source}: {where}{key}: expected a {_TOML_TYPES[type(old)]}")
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = _merged(old, value, source, f"{where}{key}.")
        elif isinstance(value, list) and isinstance(old, list):
            # The columns of the inflections and the number words have positions, so that appending would break them.
            merged[key] = value if key in ("columns", "words") else [*old, *value]
        else:
            merged[key] = value
    return merged


_TOML_TYPES: dict[type, str] = {str: "string", list: "list", dict: "table", bool: "boolean", int: "integer"}


def _reject_unknown(source: str, table: dict[str, Any], section: str, where: str) -> None:
    for key in table:
        if key not in _KEYS[section]:
            raise ConfigError(
                f"{source}: {where}{key}: unknown key; expected one of {', '.join(sorted(_KEYS[section]))}"
            )


@dataclass(frozen=True, slots=True)
class _Section:
    """A table of the file, whose values are checked when they are read."""

    source: str
    where: str
    table: dict[str, Any]

    def fail(self, key: str, problem: str) -> NoReturn:
        raise ConfigError(f"{self.source}: {self.where}{key}: {problem}")

    def string(self, key: str, default: str | None = None) -> str:
        value = self.table.get(key, default)
        if value is None:
            self.fail(key, "missing")
        if not isinstance(value, str) or not value:
            self.fail(key, f"expected a string that is not empty, found {value!r}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        return self.checked_strings(key, self.table.get(key, []))

    def checked_strings(self, key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self.fail(key, "expected a list of strings that are not empty")
        return tuple(value)

    def string_sets(self, key: str) -> list[tuple[str, ...]]:
        value = self.table.get(key, [])
        if not isinstance(value, list):
            self.fail(key, "expected a list of lists of strings")
        sets = [self.checked_strings(f"{key}[{i + 1}]", item) for i, item in enumerate(value)]
        for i, members in enumerate(sets):
            if len({member.casefold() for member in members}) < max(2, len(members)):
                self.fail(f"{key}[{i + 1}]", "expected at least two strings, all different")
        return sets

    def label(self) -> int:
        value = self.table.get("label")
        if type(value) is not int or value not in (0, 1):
            self.fail("label", f"expected 0 or 1, found {value!r}")
        return value

    def subsection(self, key: str) -> _Section:
        value = self.table.get(key, {})
        if not isinstance(value, dict):
            self.fail(key, "expected a table")
        _reject_unknown(self.source, value, key, f"{key}.")
        return _Section(self.source, f"{key}.", value)

    def subsections(self, key: str) -> list[_Section]:
        value = self.table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.fail(key, f"expected tables, written [[{key}]]")
        for i, item in enumerate(value):
            _reject_unknown(self.source, item, key, f"{key}[{i + 1}].")
        return [_Section(self.source, f"{key}[{i + 1}].", item) for i, item in enumerate(value)]

    def compiled(
        self, key: str, parts: Mapping[str, str], *, text: str | None = None, flags: int = 0
    ) -> re.Pattern[str]:
        expression = _interpolated(self, key, self.string(key) if text is None else text, parts)
        try:
            return re.compile(expression, flags or re.IGNORECASE)
        except (re.error, OverflowError, RecursionError) as error:
            self.fail(key, f"malformed regular expression: {error}")


def _interpolated(section: _Section, key: str, text: str, parts: Mapping[str, str]) -> str:
    def part(match: re.Match[str]) -> str:
        if match[1] not in parts:
            section.fail(key, f"{match[0]} names no list, fragment or form")
        return f"(?:{parts[match[1]]})"

    return _INTERPOLATED.sub(part, text)


def _alternatives(words: Iterable[str]) -> str:
    # The longest first, because a regular expression takes the first alternative that fits.
    return "|".join(re.escape(word) for word in sorted(set(words), key=lambda word: (-len(word), word)))


def _build(source: str, table: dict[str, Any]) -> LanguagePack:
    root = _Section(source, "", table)
    spacing = root.string("words", "spaced")
    if spacing not in ("spaced", "unspaced"):
        root.fail("words", f"expected 'spaced' or 'unspaced', found {spacing!r}")
    spaced = spacing == "spaced"
    forms = _forms(root.subsection("inflections"))
    numbers = root.subsection("numbers")
    lists = _lists(root)
    parts = _parts(root, forms, numbers, lists)
    protected = [root.compiled("protected", parts, text=text).pattern for text in root.strings("protected")]
    dates = root.subsection("dates")
    pack = LanguagePack(
        language=root.string("language"),
        spaced=spaced,
        kinds_off=frozenset(root.strings("kinds_off")),
        protected=re.compile("|".join(f"(?:{text})" for text in protected), re.IGNORECASE) if protected else None,
        numbers=Numbers(
            thousands=numbers.string("thousands", ","),
            decimal=numbers.string("decimal", "."),
            words=numbers.strings("words"),
            counted=numbers.compiled("counted", parts) if "counted" in numbers.table else None,
            values=_values(numbers),
        ),
        dates=tuple(dates.compiled("patterns", parts, text=text) for text in dates.strings("patterns")),
        nouns=_nouns(root) if "nouns" in table else None,
        negators=tuple(word.casefold() for word in root.strings("negators")),
        details=_details(root, lists),
        exchanges=tuple(_exchange(section, parts, lists, spaced=spaced) for section in root.subsections("exchange")),
        rewrites=tuple(_rewrite(section, parts, forms) for section in root.subsections("rewrite")),
        forms=forms,
    )
    _check_kinds(root, pack)
    return pack


def _forms(section: _Section) -> dict[str, dict[str, str]]:
    columns = section.strings("columns")
    rows = section.table.get("rows", [])
    if not isinstance(rows, list):
        section.fail("rows", "expected a list of lists of strings")
    forms: dict[str, dict[str, str]] = {column: {} for column in columns}
    for i, row in enumerate(rows):
        # A word may lack a form, which is written "".
        if not isinstance(row, list) or len(row) != len(columns) or not all(isinstance(word, str) for word in row):
            section.fail(f"rows[{i + 1}]", f"expected {len(columns)} strings, one per column")
        for column, form in zip(columns, row, strict=True):
            for word in filter(None, row):
                if form:
                    forms[column].setdefault(word.casefold(), form)
    return forms


def _lists(root: _Section) -> dict[str, tuple[str, ...]]:
    table = root.table.get("lists", {})
    if not isinstance(table, dict):
        root.fail("lists", "expected a table")
    section = _Section(root.source, "lists.", table)
    return {name: section.strings(name) for name in table}


def _parts(
    root: _Section, forms: dict[str, dict[str, str]], numbers: _Section, lists: dict[str, tuple[str, ...]]
) -> dict[str, str]:
    """Return the regular expressions that a pattern may name in braces."""
    parts = {column: _alternatives(table.values()) for column, table in forms.items()}
    parts["number_words"] = _alternatives(numbers.strings("words")) or "(?!)"
    parts |= {name: _alternatives(words) or "(?!)" for name, words in lists.items()}
    table = root.table.get("fragments", {})
    if not isinstance(table, dict):
        root.fail("fragments", "expected a table")
    section = _Section(root.source, "fragments.", table)
    for name in table:
        parts[name] = _interpolated(section, name, section.string(name), parts)
        section.compiled(name, parts)
    return parts


def _values(numbers: _Section) -> dict[str, float]:
    table = numbers.table.get("values", {})
    if not isinstance(table, dict):
        numbers.fail("values", "expected a table")
    for word, value in table.items():
        if type(value) not in (int, float) or not 0 < value <= _LARGEST_VALUE:
            numbers.fail(f"values.{word}", f"expected a positive number up to {_LARGEST_VALUE:g}, found {value!r}")
    return {word.casefold(): value for word, value in table.items()}


def _details(root: _Section, lists: dict[str, tuple[str, ...]]) -> Details:
    section = root.subsection("details")
    endings, alone = section.strings("endings"), section.strings("alone")
    named: set[str] = set()
    for key, templates in (("endings", endings), ("alone", alone)):
        for template in templates:
            names = set(_INTERPOLATED.findall(template))
            for name in names:
                if not lists.get(name):
                    section.fail(key, f"{{{name}}} names no list with words")
            named |= names
    return Details(endings, alone, {name: lists[name] for name in sorted(named)})


def _nouns(root: _Section) -> Nouns:
    section = root.subsection("nouns")
    return Nouns(
        before=frozenset(word.casefold() for word in section.strings("before")),
        never=frozenset(word.casefold() for word in section.strings("never")),
        synonyms=tuple(frozenset(word.casefold() for word in words) for words in section.string_sets("synonyms")),
    )


def _exchange(section: _Section, parts: dict[str, str], lists: dict[str, tuple[str, ...]], *, spaced: bool) -> Exchange:
    others: dict[str, tuple[str, ...]] = {}
    terms: list[str] = []
    sets = section.string_sets("sets")
    for name in section.strings("lists"):
        if len(lists.get(name, ())) < 2:
            section.fail("lists", f"{name!r} is no list of at least two words")
        sets.append(lists[name])
    for members in sets:
        terms += members
        for member in members:
            added = tuple(other for other in members if other != member)
            others[member.casefold()] = others.get(member.casefold(), ()) + added
    if not terms:
        section.fail("sets", "missing, and so is lists")
    term = f"(?P<term>{_alternatives(terms)})"
    if spaced:
        term = rf"(?<!\w){term}(?!\w)"
    pattern = section.string("pattern", "{term}")
    if "{term}" not in pattern:
        section.fail("pattern", "expected {term} in it")
    sensitive = section.table.get("case_sensitive", False)
    if not isinstance(sensitive, bool):
        section.fail("case_sensitive", "expected true or false")
    compiled = section.compiled("pattern", parts | {"term": term}, text=pattern, flags=re.UNICODE if sensitive else 0)
    return Exchange(section.string("kind"), section.label(), compiled, others)


def _rewrite(section: _Section, parts: dict[str, str], forms: dict[str, dict[str, str]]) -> Rewrite:
    pattern = section.compiled("pattern", parts)
    replace = section.table.get("replace")
    # A single template may be empty, which removes what the pattern finds.
    templates = [replace] if isinstance(replace, str) else replace
    if not isinstance(templates, list) or not templates or not all(isinstance(item, str) for item in templates):
        section.fail("replace", "expected a string or a list of strings")
    for name, form in (slot for template in templates for slot in _SLOT.findall(template)):
        if name not in pattern.groupindex:
            section.fail("replace", f"{{{name}}} is no group of the pattern")
        if form and form != "lower" and form not in forms:
            section.fail("replace", f"{{{name}:{form}}}: expected a column of the inflections, or lower")
    scope = section.string("scope", "sentence")
    if scope not in ("sentence", "text"):
        section.fail("scope", f"expected 'sentence' or 'text', found {scope!r}")
    unless = section.compiled("unless", parts) if "unless" in section.table else None
    return Rewrite(section.string("kind"), section.label(), pattern, tuple(templates), unless, scope == "text")


def _check_kinds(root: _Section, pack: LanguagePack) -> None:
    labels = dict(BUILT_IN_KINDS)
    for rule in pack.rules:
        if labels.setdefault(rule.kind, rule.label) != rule.label:
            root.fail("label", f"kind {rule.kind!r} has label 0 in one rule and 1 in another; give them two kinds")
    unknown = sorted(pack.kinds_off - set(labels))
    if unknown:
        root.fail("kinds_off", f"no rule makes {unknown[0]!r}; expected some of {', '.join(sorted(labels))}")
