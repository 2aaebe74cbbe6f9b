"""Time in which the pages of ``flipkd serve`` and ``flipkd label`` answer in a real Chromium."""

from __future__ import annotations

import csv
import sys
import time
from typing import TYPE_CHECKING, Any

from environment import ROOT
from runtime.concurrency import percentile
from runtime.parts import texts

if TYPE_CHECKING:
    from runtime.parts import Setting
    from selenium.webdriver import Chrome

_TEXTS = 2_000
_ANSWERS = 30
_OPENED = "return performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
# From the action to the first change of the part of the page that shows its answer.
_ACT = """
const [selector, done] = arguments, begun = performance.now();
const watcher = new MutationObserver(() => {
  if (!document.querySelector(selector + ' .explanation')) return;
  watcher.disconnect();
  done((performance.now() - begun) / 1000);
});
watcher.observe(document.querySelector(selector), { childList: true, subtree: true });
"""
_COMPARE = """
document.getElementById('a').value = {a!r};
document.getElementById('b').value = {b!r};
document.querySelector('[data-form=pair]').requestSubmit();
"""
_PRESS = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'm'}))"


def pages(setting: Setting) -> dict[str, Any]:
    """Open both pages, compare pairs on one and answer pairs on the other."""
    # The browser and the running commands are those of the tests.
    sys.path.append(str(ROOT / "tests"))
    from browser import chromium
    from served import running

    table = setting.folder / "texts.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts(setting.size(_TEXTS), seed=14))])
    pairs = zip(texts(_ANSWERS, seed=15), texts(_ANSWERS, seed=16), strict=True)
    label = ("label", table, "--matcher", setting.matcher, "--out", setting.folder / "labels.csv")
    found: dict[str, list[float]] = {}
    with chromium() as browser:
        browser.set_script_timeout(60)
        with running("serve", setting.matcher) as (address, _):
            found["serve_opened"] = _opened(browser, address)
            actions = [_COMPARE.format(a=a, b=b) for a, b in pairs]
            # The page opens the session of explanations while its reader types.
            time.sleep(5)
            found["first_explanation"] = _acted(browser, actions[:1], "[data-result=pair]")
            found["compared"] = _acted(browser, actions[1:], "[data-result=pair]")
        with running(*label) as (address, _):
            found["label_opened"] = _opened(browser, address)
            found["answered"] = _acted(browser, [_PRESS] * _ANSWERS, "[data-part=pair]")
    worst = {name: max(seconds) for name, seconds in found.items()}
    return {
        "times": {name: len(seconds) for name, seconds in found.items()},
        "p50_seconds": {name: percentile([*seconds, seconds[0]], 50) for name, seconds in found.items()},
        "largest_seconds": worst,
        "target": "each page and each answer in under 1 second",
        "met": max(worst.values()) < 1,
    }


def _opened(browser: Chrome, address: str) -> list[float]:
    times = []
    for _ in range(5):
        browser.get(address)
        times.append(float(browser.execute_script(_OPENED)))
    return times


def _acted(browser: Chrome, actions: list[str], selector: str) -> list[float]:
    return [float(browser.execute_async_script(_ACT + action, selector)) for action in actions]
