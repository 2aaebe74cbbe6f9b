"""The pages of ``flipkd serve`` and ``flipkd label`` in a real browser."""

from __future__ import annotations

import csv
import signal
from typing import TYPE_CHECKING, Any

import pytest
from browser import DESKTOP, PHONE, console, open_address
from served import running
from test_browser import LOWEST_CONTRAST
from tiny import TEXTS

from flipkd_sdk import Matcher
from flipkd_sdk.pairs import read_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

pytest.importorskip("uvicorn", reason="the pages need: pip install 'flipkd-sdk[serve]'")

HOSTILE = "<script>document.title='broken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def service(tiny_matcher: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    candidates = tmp_path_factory.mktemp("candidates") / "faq.txt"
    candidates.write_text(f"{HOSTILE}\nWhere is my card?\n", encoding="utf-8")
    with running("serve", tiny_matcher, "--candidates", candidates) as (address, _):
        yield address


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [HOSTILE, *(text for text in TEXTS if text.strip())]
        csv.writer(file).writerows([["text"], *([text] for text in rows)])
    return path


def wait_for(browser: Chrome, script: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60, poll_frequency=0.05).until(lambda b: b.execute_script(f"return {script}"))


def press(browser: Chrome, keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(keys).perform()


def test_a_pair_is_tried_and_its_explanation_read(browser: Chrome, service: str, tiny_matcher: Path) -> None:
    from selenium.webdriver import Keys

    open_address(browser, service)
    browser.find_element("id", "a").send_keys(TEXTS[0])
    browser.find_element("id", "b").send_keys(HOSTILE)
    browser.find_element("id", "b").send_keys(Keys.CONTROL, Keys.ENTER)
    text = wait_for(browser, "document.querySelector('[data-result=pair] .explanation')?.textContent")
    with Matcher.load(tiny_matcher, on_truncate="ignore") as matcher:
        assert f"score {matcher.score(TEXTS[0], HOSTILE):.3f}" in text
    assert HOSTILE[:40] in text
    assert browser.execute_script("return document.querySelectorAll('[data-result=pair] img, main script').length") == 0
    assert browser.title != "broken"
    assert console(browser) == []


def test_candidates_are_found_and_shown_as_texts(browser: Chrome, service: str) -> None:
    open_address(browser, service)
    browser.find_element("id", "query").send_keys("my card")
    browser.find_element("css selector", "form[data-form=rank] button").click()
    text = wait_for(browser, "document.querySelector('[data-result=rank] ol')?.textContent")
    assert HOSTILE in text
    assert "Where is my card?" in text
    assert console(browser) == []


def test_an_error_is_shown_and_a_key_is_sent(browser: Chrome, tiny_matcher: Path) -> None:
    key = "a key of the test"
    with running("serve", tiny_matcher, key=key) as (address, _):
        open_address(browser, address)
        browser.find_element("css selector", "form[data-form=pair] button").click()
        text = wait_for(browser, "document.querySelector('[data-result=pair]').textContent")
        assert text.startswith("Not done: a valid key is missing")
        browser.find_element("id", "api-key").send_keys(key)
        browser.find_element("css selector", "form[data-form=pair] button").click()
        wait_for(browser, "document.querySelector('[data-result=pair] .explanation')")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_an_explanation_has_enough_contrast_and_room(browser: Chrome, service: str, size: Any, dark: bool) -> None:
    open_address(browser, service, size=size, dark=dark)
    browser.find_element("id", "a").send_keys(TEXTS[0])
    browser.find_element("id", "b").send_keys(TEXTS[9])
    browser.find_element("css selector", "form[data-form=pair] button").click()
    wait_for(browser, "document.querySelector('[data-result=pair] .explanation')")
    assert browser.execute_script("return document.querySelectorAll('.explanation [class^=for]').length") > 0
    count, contrast, *where = browser.execute_script(LOWEST_CONTRAST)
    assert count > 20
    assert contrast >= 4.5, where
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_twenty_pairs_are_labelled_by_keys_and_a_kill_loses_none(
    browser: Chrome, tiny_matcher: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.csv"
    command = ("label", table, "--matcher", tiny_matcher, "--out", out, "--device", "cpu")
    keys = "mnmnnmunmz" * 3

    def labelled() -> int:
        return sum(len(path.read_bytes().splitlines()) - 1 for path in (out, tmp_path / "labels.csv.unsure.csv"))

    pressed = ""
    for part in (keys[:13], keys[13:]):
        with running(*command) as (address, process):
            open_address(browser, address)
            wait_for(browser, "document.querySelector('[data-part=pair] .explanation') !== null")
            assert browser.execute_script("return document.querySelectorAll('[data-part=pair] img').length") == 0
            for key in part:
                press(browser, key)
                pressed += key
                progress = "document.querySelector('[data-part=progress]').textContent"
                wait_for(browser, f"{progress}.includes({_said(pressed)!r})")
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = len(pressed) - 2 * pressed.count("z")
        assert labelled() == done
    assert done >= 20
    pairs = read_pairs(out)
    assert len({(a, b) for a, b in zip(pairs.a, pairs.b, strict=True)}) == len(pairs)
    assert set(pairs.label) == {0, 1}
    assert console(browser) == []


def _said(pressed: str) -> str:
    """Return the beginning of the sentence on the page after some keys."""
    kept: list[str] = []
    for key in pressed:
        if key == "z":
            kept.pop()
        else:
            kept.append(key)
    labels = [key for key in kept if key != "u"]
    return f"{len(labels)} labels, {labels.count('m')} of them matches; {kept.count('u')} left open"


def test_another_name_or_token_gets_nothing(tiny_matcher: Path, table: Path, tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")
    with running("label", table, "--matcher", tiny_matcher, "--out", tmp_path / "labels.csv") as (address, _):
        base, _, token = address.partition("/?token=")
        assert httpx.get(address).is_success
        assert httpx.get(f"{base}/pair", headers={"x-token": token}).is_success
        for path in ("/", "/pair", "/?token=wrong", "/?token="):
            assert httpx.get(base + path).status_code == 401
        stranger = {"host": "attacker.example:80", "x-token": token}
        assert httpx.get(f"{base}/pair", headers=stranger).status_code == 421
        answer = httpx.post(f"{base}/answer", json={"row": 10**6, "answer": "match"}, headers={"x-token": token})
        assert answer.status_code == 409
        for body in ({"row": -1, "answer": "match"}, {"row": 0, "answer": "maybe"}, {"row": 0}, [1]):
            assert httpx.post(f"{base}/answer", json=body, headers={"x-token": token}).status_code == 422
        large = httpx.post(f"{base}/answer", content=b"x" * 10_000, headers={"x-token": token})
        assert large.status_code == 413
        assert (tmp_path / "labels.csv").read_text(encoding="utf-8").count("\n") == 1
