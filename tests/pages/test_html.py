from __future__ import annotations

import pytest

from flipkd_sdk.pages.html import Html, element, escape, join


def test_plain_strings_are_escaped_and_markup_is_not() -> None:
    inner = element("b", "a < b & 'c' \"d\"")
    assert element("p", inner, "<i>") == "<p><b>a &lt; b &amp; &#x27;c&#x27; &quot;d&quot;</b>&lt;i&gt;</p>"


def test_attributes_are_escaped_and_renamed() -> None:
    assert element("input", data_part='"><script>', class_="x", hidden=True, min=0, title=None, checked=False) == (
        '<input data-part="&quot;&gt;&lt;script&gt;" class="x" hidden min="0">'
    )


def test_markup_that_was_joined_with_a_plain_string_is_escaped_again() -> None:
    mixed = Html("<b>") + "<script>"
    assert escape(mixed) == "&lt;b&gt;&lt;script&gt;"
    assert join([Html("<b>"), "<b>"]) == "<b>&lt;b&gt;"


@pytest.mark.parametrize("character", ["\0", "\x0b", "\x1b", "\x85", "\ud800", "\udfff"])
def test_characters_that_html_or_utf8_cannot_contain_are_replaced(character: str) -> None:
    shown = element("p", f"a{character}b", title=character)
    assert shown == '<p title="\ufffd">a\ufffdb</p>'
    shown.encode()


def test_tabs_and_line_ends_are_kept() -> None:
    assert escape("a\tb\r\nc") == "a\tb\r\nc"
