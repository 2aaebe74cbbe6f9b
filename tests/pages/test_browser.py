"""The evaluation report in a real browser; the training report consists of the same parts."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import DESKTOP, PHONE, console, show
from example_report import COUNT, THRESHOLD, scores, write_report
from selenium.webdriver import ActionChains, Keys

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver import Chrome

SIZES = pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
SCHEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])

# WCAG 2: contrast of each element's own text with the first background below it that is not transparent.
LOWEST_CONTRAST = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const found = [];
for (const detail of document.querySelectorAll("details")) detail.open = true;
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  if (!own || ["SCRIPT", "title"].includes(node.tagName) || !node.getClientRects().length) continue;
  const style = getComputedStyle(node);
  const text = parse(node instanceof SVGElement ? style.fill : style.color);
  let below = node, back = [0, 0, 0, 0];
  while (below && (back = parse(getComputedStyle(below).backgroundColor)).length === 4 && back[3] === 0)
    below = below.parentElement;
  const light = [luminance(text), luminance(back)].sort((a, b) => b - a);
  found.push([(light[0] + 0.05) / (light[1] + 0.05), node.tagName, node.textContent.slice(0, 40)]);
}
return [found.length, ...found.sort((a, b) => a[0] - b[0])[0]];
"""


@pytest.fixture(scope="module")
def report(tiny_matcher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "report.html"
    write_report(path, tiny_matcher)
    return path


def part(browser: Chrome, name: str) -> Any:
    return browser.find_element("css selector", f'[data-part="{name}"]')


def shown_counts(browser: Chrome) -> dict[str, int]:
    return {name: int(part(browser, name).text) for name in ("found", "missed", "false", "rejected")}


def counts_at(threshold: float) -> dict[str, int]:
    probability, label = scores()
    called = probability.astype(np.float64) >= threshold
    cells = {"found": called & (label == 1), "missed": ~called & (label == 1)}
    cells |= {"false": called & (label == 0), "rejected": ~called & (label == 0)}
    return {name: int(chosen.sum()) for name, chosen in cells.items()}


def set_slider(browser: Chrome, place: int) -> None:
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    browser.execute_script(script, part(browser, "slider"), place)


def type_into(browser: Chrome, name: str, value: str) -> None:
    part(browser, name).send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.DELETE, value)


def test_without_its_script_the_page_has_the_counts_at_the_threshold_in_use(browser: Chrome, report: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, report)
        assert shown_counts(browser) == counts_at(THRESHOLD)
        assert not part(browser, "controls").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_slider_starts_at_the_threshold_in_use(browser: Chrome, report: Path) -> None:
    show(browser, report)
    assert part(browser, "controls").is_displayed()
    assert part(browser, "value").text == f"{THRESHOLD:.4f}"
    assert shown_counts(browser) == counts_at(THRESHOLD)


# Below the threshold in use the k-th position is k/1000. That threshold is one position more, and from 0.99 on a
# position is 0.0001.
@pytest.mark.parametrize(("place", "threshold"), [(0, 0.0), (250, 0.25), (701, 0.7), (996, 0.9905), (1091, 1.0)])
def test_each_position_of_the_slider_has_its_counts(
    browser: Chrome, report: Path, place: int, threshold: float
) -> None:
    show(browser, report)
    set_slider(browser, place)
    assert part(browser, "value").text == f"{threshold:.4f}"
    counts = counts_at(threshold)
    assert shown_counts(browser) == counts
    for name, share in (
        ("accuracy", (counts["found"] + counts["rejected"]) / COUNT),
        ("recall", counts["found"] / (counts["found"] + counts["missed"])),
        ("precision", counts["found"] / max(counts["found"] + counts["false"], 1)),
    ):
        assert float(part(browser, name).text.removesuffix("%")) == pytest.approx(100 * share, abs=0.051)
    mark = browser.find_element("css selector", "line[data-low]")
    low, high = (float(mark.get_attribute(name)) for name in ("data-low", "data-high"))
    assert float(mark.get_attribute("x1")) == pytest.approx(low + threshold * (high - low))


def test_costs_decide_the_cheapest_threshold(browser: Chrome, report: Path) -> None:
    show(browser, report)
    type_into(browser, "cost-false", "7.5")
    type_into(browser, "cost-missed", "2")
    part(browser, "cheapest").click()
    counts = shown_counts(browser)
    cost = 7.5 * counts["false"] + 2 * counts["missed"]
    every = [counts_at(threshold) for threshold in [*np.arange(1001) / 1000, THRESHOLD]]
    assert cost == min(7.5 * at["false"] + 2 * at["missed"] for at in every)
    assert part(browser, "cost").text.startswith(f"These errors cost {cost:g},")
    part(browser, "reset").click()
    assert shown_counts(browser) == counts_at(THRESHOLD)
    assert f"The lowest cost on these pairs is {cost:g}" in part(browser, "cost").text


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_cost_that_is_none_is_asked_for_again(browser: Chrome, report: Path, value: str) -> None:
    show(browser, report)
    type_into(browser, "cost-false", value)
    assert part(browser, "cost").text == "Enter two costs of 0 or more."
    assert shown_counts(browser) == counts_at(THRESHOLD)
    assert console(browser) == []


def test_the_keyboard_alone_suffices(browser: Chrome, report: Path) -> None:
    show(browser, report)
    reached = []
    for _ in range(60):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        focus = browser.switch_to.active_element
        reached.append(focus.get_attribute("data-part") or focus.tag_name)
        if reached[-1] == "slider":
            ActionChains(browser).send_keys(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
            assert part(browser, "value").text == "0.0020"
            assert focus.get_attribute("aria-valuetext") == "0.0020"
            assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if reached[-1] == "reset":
            ActionChains(browser).send_keys(Keys.ENTER).perform()
            assert shown_counts(browser) == counts_at(THRESHOLD)
        if reached[-1] == "summary":
            ActionChains(browser).send_keys(Keys.ENTER).perform()
            assert browser.execute_script("return document.activeElement.parentElement.open")
            break
    assert [name for name in reached if name not in ("a", "div")] == [
        *("slider", "cost-false", "cost-missed", "reset", "cheapest", "summary")
    ]


@SIZES
@SCHEMES
def test_the_page_has_no_error_and_loads_nothing(browser: Chrome, report: Path, size: Any, dark: bool) -> None:
    show(browser, report, size=size, dark=dark)
    assert console(browser) == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"] for message in sent if message["method"] == "Network.requestWillBeSent"
    }
    assert asked == {report.as_uri()}


def test_the_page_does_not_scroll_sideways_on_a_phone(browser: Chrome, report: Path) -> None:
    show(browser, report, size=PHONE)
    browser.execute_script("for (const node of document.querySelectorAll('details')) node.open = true")
    assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]


@SCHEMES
def test_every_text_has_enough_contrast(browser: Chrome, report: Path, dark: bool) -> None:
    show(browser, report, dark=dark)
    count, contrast, *where = browser.execute_script(LOWEST_CONTRAST)
    assert count > 200
    assert contrast >= 4.5, where


def test_the_page_is_dark_if_the_reader_prefers_that(browser: Chrome, report: Path) -> None:
    shades = []
    for dark in (False, True):
        show(browser, report, dark=dark)
        shades.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert shades == ["rgb(255, 255, 255)", "rgb(18, 21, 27)"]


def test_headings_controls_and_charts_have_names(browser: Chrome, report: Path) -> None:
    show(browser, report)
    levels = [int(node.tag_name[1]) for node in browser.find_elements("css selector", "h1, h2, h3")]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    nodes = browser.find_elements("css selector", "input, button, summary, figure > svg, .scroll")
    assert len(nodes) > 10
    assert all(node.accessible_name for node in nodes)
    for link in browser.find_elements("css selector", "nav a"):
        assert browser.find_element("css selector", link.get_attribute("href").partition("#")[2].join(("#", "")))
