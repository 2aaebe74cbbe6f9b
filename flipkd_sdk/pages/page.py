"""The frame of every page: one stylesheet, a content security policy, a list of contents, no other file."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from flipkd_sdk.pages.html import Html, element, join

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with a heading, listed in the contents."""

    name: str
    """Anchor, unique on the page."""
    title: str
    body: Html


def page(
    title: str, lead: Html, sections: Sequence[Section], *, footer: str, scripts: Sequence[str] = (), live: bool = False
) -> str:
    """Return a page as one self-contained document.

    Args:
        title: heading and window title.
        lead: what stands above the contents, such as the verdict.
        sections: the rest, in order.
        footer: a closing line.
        scripts: names of scripts in this folder, inlined. The policy admits these and no other script.
        live: let the scripts ask the server that the page comes from.
    """
    style = _resource("style.css") + _resource("explanation.css")
    sources = [_resource(name) for name in scripts]
    head = join(
        [
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=_policy(style, sources, live=live)),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", title),
            element("style", Html(style)),
        ]
    )
    contents = [element("li", element("a", section.title, href=f"#{section.name}")) for section in sections]
    body = join(
        [
            element("a", "Skip to the sections", href="#sections", class_="skip"),
            element("header", element("h1", title), lead),
            element("nav", element("ul", *contents), aria_label="Contents"),
            element("main", *(_section(section) for section in sections), id="sections", tabindex=-1),
            element("footer", element("p", footer)),
            *(element("script", Html(source)) for source in sources),
        ]
    )
    return "<!doctype html>\n" + element("html", element("head", head), element("body", body), lang="en") + "\n"


def _section(section: Section) -> Html:
    heading = element("h2", section.title, id=f"{section.name}-title")
    return element("section", heading, section.body, id=section.name, aria_labelledby=f"{section.name}-title")


def _policy(style: str, scripts: Sequence[str], *, live: bool) -> str:
    allowed = " ".join(map(_hash, scripts)) or "'none'"
    closed = "default-src 'none'; base-uri 'none'; form-action 'none'"
    asked = "; connect-src 'self'" if live else ""
    return f"{closed}; style-src {_hash(style)}; script-src {allowed}{asked}"


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _resource(name: str) -> str:
    return files("flipkd_sdk.pages").joinpath(name).read_text(encoding="utf-8")
