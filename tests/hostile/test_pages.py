"""Texts and names that are markup, scripts or broken characters do nothing on a page but be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser import PHONE, console, show
from example_report import write_report

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver import Chrome

TEXTS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "</p></li></ol></main><script>document.title='owned'</script>",
    "\"><svg onload=document.title='owned'>",
    "' onfocus=document.title='owned' autofocus='",
    "<style>body{display:none}</style><link rel=stylesheet href=http://example.invalid/x.css>",
    "<meta http-equiv=refresh content='0;url=http://example.invalid/'><base href=http://example.invalid/>",
    "&lt;script&gt; &amp; &#60;b&#62; stay as they are",
    "<!-- open comment ]]> <![CDATA[",
    "javascript:document.title='owned'",
    "{{ 7 * 7 }} ${7 * 7} {% raw %}",
    "\u202egnirts desrever\u202c and \u2066isolated\u2069",
    "no\0 \x1b[31m \x07control \ud800characters \x85",
    "unbroken" * 400,
    "line\n\n\n\nfeeds\tand tabs",
    "   ",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 <b>",
)
NAMES = ("<script>document.title='owned'</script>", "\"'><img src=x onerror=document.title='owned'>", "long" * 100)


@pytest.mark.parametrize("name", NAMES, ids=["script", "attribute", "long"])
def test_hostile_texts_and_names_are_shown_and_do_nothing(
    browser: Chrome, tiny_matcher: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "report.html"
    write_report(path, tiny_matcher, TEXTS, name)
    show(browser, path, size=PHONE)
    browser.execute_script("for (const node of document.querySelectorAll('details')) node.open = true")
    assert browser.title == "Evaluation report"
    assert console(browser) == []
    assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
    count = "return document.querySelectorAll(arguments[0]).length"
    assert browser.execute_script(count, "script") == 1
    assert browser.execute_script(count, "img, link, base, iframe, body style, [onerror], [onload], [onfocus]") == 0
    shown = browser.execute_script("return [...document.querySelectorAll('bdi')].map((node) => node.textContent)")
    assert {text for text in TEXTS if len(text) < 200 and text.isprintable() and text.strip()} <= set(shown)
    assert max(map(len, shown)) <= 500
    assert name in browser.execute_script("return document.querySelector('header').textContent") or "/" in name


def test_the_policy_refuses_a_script_that_the_page_did_not_come_with(
    browser: Chrome, tiny_matcher: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    write_report(path, tiny_matcher)
    injected = "<script>document.title='owned'</script><b style='color:red' onclick='x()'>b</b></main>"
    path.write_text(path.read_text(encoding="utf-8").replace("</main>", injected), encoding="utf-8")
    show(browser, path)
    assert browser.title == "Evaluation report"
    refused = [entry["message"] for entry in console(browser)]
    assert any("script" in message and "Content Security Policy" in message for message in refused)
    assert any("style" in message and "Content Security Policy" in message for message in refused)
