"""The pages of ``flipkd serve`` and ``flipkd label`` in a real browser."""

from __future__ import annotations

import csv
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from browser import DESKTOP, PHONE, console, open_address
from click.testing import CliRunner
from served import running
from test_browser import LOWEST_CONTRAST
from tiny import TEXTS

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli
from flipkd_sdk.pairs import read_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

pytest.importorskip("uvicorn", reason="the pages need: pip install 'flipkd-sdk[serve]'")

MORE = [
    f"How do I {verb} my {thing} {where}?"
    for verb in ("lose", "order", "block", "renew", "report", "cancel")
    for thing in ("card", "PIN", "loan", "account", "password", "transfer")
    for where in ("online", "abroad", "today", "by phone", "at the branch", "in the app", "again", "for a friend")
]
"""Enough texts that the chosen pairs share few, so that they can be split for training."""
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
        rows = [HOSTILE, *(text for text in TEXTS if text.strip()), *MORE]
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


@pytest.fixture(scope="module")
def label_page(tiny_matcher: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    out = tmp_path_factory.mktemp("page") / "labels.csv"
    with running("label", table, "--matcher", tiny_matcher, "--out", out, "--device", "cpu") as (address, _):
        yield address


def open_page(browser: Chrome, address: str, **options: Any) -> None:
    """Open a page, the labelling one until its pair is there."""
    open_address(browser, address, **options)
    if "token" in address:
        wait_for(browser, "document.querySelector('[data-part=pair] .explanation') !== null")


PAGES = pytest.mark.parametrize("page", ["service", "label_page"])


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_labelling_page_has_enough_contrast_and_room(
    browser: Chrome, label_page: str, size: Any, dark: bool
) -> None:
    open_page(browser, label_page, size=size, dark=dark)
    count, contrast, *where = browser.execute_script(LOWEST_CONTRAST)
    assert count > 20
    assert contrast >= 4.5, where
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


@PAGES
def test_every_control_has_a_name_and_the_keyboard_reaches_it(
    browser: Chrome, page: str, request: pytest.FixtureRequest
) -> None:
    from selenium.webdriver import Keys

    open_page(browser, request.getfixturevalue(page))
    enabled = "input:enabled, button:enabled, textarea:enabled, a"
    controls = browser.find_elements("css selector", enabled)
    assert len(controls) > 3
    assert all(control.accessible_name for control in controls)
    reached = []
    for _ in controls:
        press(browser, Keys.TAB)
        focus = browser.switch_to.active_element
        assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", focus) == "solid"
        reached.append(focus)
    assert reached == controls


def test_a_pair_is_labelled_with_tab_and_enter_and_taken_back(browser: Chrome, label_page: str) -> None:
    from selenium.webdriver import Keys

    open_page(browser, label_page)
    said = "document.querySelector('[data-part=progress]').textContent"
    before = wait_for(browser, said)
    browser.find_element("css selector", "[data-answer=match]").send_keys(Keys.ENTER)
    wait_for(browser, f"{said} !== {before!r}")
    browser.find_element("css selector", "[data-answer=undo]").send_keys(Keys.ENTER)
    wait_for(browser, f"{said} === {before!r}")


@PAGES
def test_the_policy_stops_foreign_scripts_and_servers(
    browser: Chrome, page: str, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue(page)
    open_page(browser, address)
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert asked and all(url.startswith(address.partition("/?")[0]) for url in asked)
    assert console(browser) == []
    attack = """
    document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="document.title=1"><iframe src="/"></iframe>');
    const script = document.createElement('script');
    script.textContent = 'document.title=1';
    document.body.append(script);
    return fetch('http://127.0.0.2:9/', {mode: 'no-cors'}).then(() => 'sent', () => 'stopped');
    """
    assert browser.execute_script(attack) == "stopped"
    assert browser.title != "1"
    stopped = " ".join(entry["message"] for entry in console(browser))
    for directive in ("script-src", "connect-src", "default-src"):
        assert directive in stopped


@pytest.fixture(scope="module")
def labelled(browser: Chrome, tiny_matcher: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty and more pairs, labelled by keys in two sessions that end with a kill."""
    folder = tmp_path_factory.mktemp("labelled")
    out = folder / "labels.csv"
    command = ("label", table, "--matcher", tiny_matcher, "--out", out, "--device", "cpu")
    keys = "mnmnnmunmz" * 3

    def labelled() -> int:
        return sum(len(path.read_bytes().splitlines()) - 1 for path in (out, folder / "labels.csv.unsure.csv"))

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
    assert console(browser) == []
    return out


def test_twenty_pairs_are_labelled_by_keys_and_a_kill_loses_none(labelled: Path) -> None:
    pairs = read_pairs(labelled)
    assert len({(a, b) for a, b in zip(pairs.a, pairs.b, strict=True)}) == len(pairs)
    assert set(pairs.label) == {0, 1}


def test_the_labels_are_trained_on(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("tiny_models", reason="training needs: pip install 'flipkd-sdk[train]'")
    config = models.tiny_config(tmp_path)
    monkeypatch.setenv("FLIPKD_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    options: list[object] = ["--pairs", labelled, "--dev", config.data.dev, "--test", config.data.test]
    options += ["--teacher", config.teacher.source, "--student", config.student.source, "--layer", 2, "--out", run]
    changes = ("teacher.epochs=0", "student.rank=4", "student.site_rank=16", "alignment.fewest_texts=0")
    options += [f"--set={one}" for one in (*changes, "head.enabled=false")]
    done = CliRunner().invoke(cli, ["train", *map(str, options)])
    assert done.exit_code == 0, done.stderr
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["pairs"]["train"] == len(read_pairs(labelled))
    assert 0 < result["measures"]["student"]["dev"]["average_precision"] <= 1


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
