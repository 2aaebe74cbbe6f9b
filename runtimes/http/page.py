"""The page of the service, to try pairs and read their explanations."""

from __future__ import annotations

from flipkd_sdk import __version__
from flipkd_sdk.pages.html import Html, element, join
from flipkd_sdk.pages.page import Section, page


def try_page(matcher: str, *, ranks: bool) -> str:
    """Return the page.

    Args:
        matcher: name of the matcher.
        ranks: the server has candidates to rank.
    """
    sections = [Section("pair", "Two texts", _pair_form())]
    if ranks:
        sections.append(Section("rank", "Candidates", _rank_form()))
    sections.append(Section("key", "API key", _key_form()))
    lead = element("p", f"Try {matcher}: do two texts mean the same, and why?")
    footer = f"flipkd serve, flipkd_sdk {__version__}. The same as JSON: /openapi.json lists all requests."
    return page("Match two texts", lead, sections, footer=footer, scripts=["serve.js"], live=True)


def _pair_form() -> Html:
    return join(
        [
            element(
                "form",
                _area("a", "First text"),
                _area("b", "Second text"),
                element("button", "Compare", type="submit"),
                element("small", " Ctrl+Enter does the same."),
                data_form="pair",
            ),
            _result("pair"),
        ]
    )


def _rank_form() -> Html:
    return join(
        [
            element("form", _area("query", "Text"), element("button", "Find", type="submit"), data_form="rank"),
            _result("rank"),
        ]
    )


def _key_form() -> Html:
    return join(
        [
            element("p", "Needed only if the server was started with one. It stays in this page until you close it."),
            element(
                "form",
                element("label", "API key ", for_="api-key"),
                element("input", id="api-key", type="password", autocomplete="off"),
                data_form="key",
            ),
            _result("key"),
        ]
    )


def _area(name: str, label: str) -> Html:
    # Set, because the reader's language need not be the page's.
    area = element("textarea", id=name, name=name, rows=3, dir="auto", spellcheck="false", required=name == "query")
    return element("p", element("label", label, for_=name), area, class_="field")


def _result(name: str) -> Html:
    return element("div", role="status", aria_live="polite", data_result=name)
