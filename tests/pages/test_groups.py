"""The page of ``flipkd dedupe --report`` in a real browser."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from browser import DESKTOP, PHONE, console, show
from click.testing import CliRunner
from selenium.webdriver import ActionChains, Keys
from test_browser import LOWEST_CONTRAST, part, set_slider

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli
from flipkd_sdk.runtimes.linkage.dedupe import dedupe

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver import Chrome

THRESHOLD = 0.8
TEXTS = [
    *(
        f"{verb} my {thing}{end}"
        for verb in ("reset", "lost")
        for thing in ("PIN", "card")
        for end in ("", "!", " now")
    ),
    *("reset my PIN", "Top up", "fee abroad", "fees abroad", ""),
    *("<script>document.title='owned'</script>", "<script>document.title='owned'</script> ", "unbroken" * 100),
    *(
        "</li></ol></main><img src=x onerror=\"document.title='owned'\">",
        "' autofocus onfocus='x",
        "\u202egnirts\u202c",
    ),
]


@pytest.fixture(scope="module")
def report(tiny_matcher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("groups")
    table = folder / "<b>texts.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
    thresholds = ("--threshold", str(THRESHOLD), "--threshold", "0.6")
    arguments = ["dedupe", tiny_matcher, table, "--out", folder / "out.csv", "--report", folder / "groups.html"]
    done = CliRunner().invoke(cli, [*map(str, arguments), *thresholds, "--precision", "fp32"])
    assert done.exit_code == 0, done.output
    return folder / "groups.html"


def positions(browser: Chrome) -> list[float]:
    data = browser.find_element("css selector", ".grouping").get_attribute("data-counts")
    found: list[float] = json.loads(str(data))["thresholds"]
    return found


def shown_groups(browser: Chrome) -> list[list[int]]:
    """Return the rows of each group that the page shows, without those that a group would join."""
    lists = browser.execute_script(
        """return [...document.querySelectorAll(".members:not([data-next])")].map((list) => [...list.children].map(
             (item) => [item.classList.contains("apart"), item.querySelector("small").textContent]))"""
    )
    groups: list[list[int]] = []
    for members in lists:
        for number, (apart, note) in enumerate(members):
            rows = [int(row) - 1 for row in re.findall(r"\d+", note.split(";")[0])]
            if number == 0 or apart:
                groups.append([])
            groups[-1] += rows
    return sorted(sorted(group) for group in groups)


def test_without_its_script_the_page_has_the_groups_at_the_first_threshold(browser: Chrome, report: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, report)
        assert not part(browser, "controls").is_displayed()
        static = part(browser, "counts").text
        apart = len(browser.find_elements("css selector", ".members:not([data-next]) .apart"))
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert apart == 0
    show(browser, report)
    assert part(browser, "controls").is_displayed()
    assert part(browser, "value").text == f"{THRESHOLD:.4f}"
    assert part(browser, "counts").text.partition(" Of the")[0] == static.partition(" No group")[0]


@pytest.mark.parametrize("threshold", [THRESHOLD, 0.84, 0.88, 0.92, 0.96, 1.0])
def test_the_slider_splits_groups_as_another_threshold_would(
    browser: Chrome, report: Path, tiny_matcher: Path, threshold: float
) -> None:
    show(browser, report)
    places = positions(browser)
    place = min(range(len(places)), key=lambda i: abs(places[i] - threshold))
    set_slider(browser, place)
    with Matcher.load(tiny_matcher, precision="fp32") as matcher:
        groups = dedupe(matcher, TEXTS, threshold=places[place])
    expected = [
        [i for i, group in enumerate(groups.canonical) if group == canonical] for canonical in range(len(TEXTS))
    ]
    shown = shown_groups(browser)
    known = {row for group in shown for row in group}
    assert len(known) > 12
    assert shown == sorted(group for group in expected if group and group[0] in known)
    assert part(browser, "counts").text.startswith(f"{groups.count} groups, ")


def test_the_slider_joins_groups_as_another_threshold_would(browser: Chrome, report: Path, tiny_matcher: Path) -> None:
    show(browser, report)
    part(browser, "controls").find_element("css selector", "[data-go]:nth-of-type(2)").click()
    assert part(browser, "value").text == "0.6000"
    with Matcher.load(tiny_matcher, precision="fp32") as matcher:
        before, after = (dedupe(matcher, TEXTS, threshold=threshold) for threshold in (THRESHOLD, 0.6))
    assert part(browser, "counts").text.startswith(f"{after.count} groups, ")
    assert after.count < before.count
    joined = browser.execute_script(
        """const first = ".members[data-next] > li:first-child:not(.apart)";
           return [...document.querySelectorAll(".groups > li")].filter((card) => card.querySelector(first))
             .map((card) => card.querySelector("small").textContent)"""
    )
    assert joined
    for note in joined:
        row = int(re.findall(r"\d+", note)[0]) - 1
        assert after.sizes[row] > before.sizes[row]


def test_the_keyboard_alone_suffices(browser: Chrome, report: Path) -> None:
    show(browser, report)
    reached = []
    for _ in range(20):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        focus = browser.switch_to.active_element
        reached.append(focus.get_attribute("data-part") or focus.get_attribute("data-step") or focus.tag_name)
        before = part(browser, "counts").text
        if reached[-1] == "slider":
            ActionChains(browser).send_keys(Keys.HOME).perform()
            assert focus.get_attribute("aria-valuetext") == f"{positions(browser)[0]:.4f}"
        if reached[-1] == "split":
            ActionChains(browser).send_keys(Keys.ENTER).perform()
            assert part(browser, "counts").text != before
            break
    assert [name for name in reached if name not in ("a", "div")] == ["slider", "button", "button", "join", "split"]
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_hostile_texts_are_shown_and_the_page_fits_and_can_be_read(
    browser: Chrome, report: Path, size: Any, dark: bool
) -> None:
    show(browser, report, size=size, dark=dark)
    assert browser.title == "Groups of <b>texts.csv"
    assert console(browser) == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"] for message in sent if message["method"] == "Network.requestWillBeSent"
    }
    assert asked == {report.as_uri()}
    assert browser.execute_script("return document.querySelectorAll('img, main script, [onfocus], main b').length") == 0
    shown = browser.execute_script("return [...document.querySelectorAll('bdi')].map((node) => node.textContent)")
    assert TEXTS[-6] in shown
    assert max(map(len, shown)) <= 500
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    count, contrast, *where = browser.execute_script(LOWEST_CONTRAST)
    assert count > 40
    assert contrast >= 4.5, where
