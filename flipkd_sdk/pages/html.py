"""Markup that is safe by construction: a plain string is text and is escaped, only `Html` is markup."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_VOID = frozenset({"br", "hr", "input", "link", "meta"})
# HTML has no way to write most control characters, and UTF-8 has none to write a lone surrogate.
_REPLACED = dict.fromkeys([*range(9), 11, *range(14, 32), *range(127, 160), *range(0xD800, 0xE000)], "\ufffd")


class Html(str):
    """Markup. Concatenation with a plain string returns a plain string, which is escaped when it is used."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Return a text as markup; `Html` is returned as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text.translate(_REPLACED)))


def join(parts: Iterable[str]) -> Html:
    """Join markup and texts."""
    return Html("".join(escape(part) for part in parts))


def element(tag: str, /, *content: str, **attributes: str | float | None) -> Html:
    """Return an element.

    Args:
        tag: name of the element.
        content: markup and texts.
        attributes: by name, with ``_`` for ``-`` and a trailing ``_`` removed. None and False omit an attribute, True
            writes it without a value.

    Example:
        >>> element("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    opening = tag
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        opening += f" {key.rstrip('_').replace('_', '-')}"
        if value is not True:
            opening += f'="{escape(str(value))}"'
    return Html(f"<{opening}>" if tag in _VOID else f"<{opening}>{join(content)}</{tag}>")
