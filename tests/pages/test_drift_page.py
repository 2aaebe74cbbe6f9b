"""The drift report in a real browser, with texts and names that are markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import PHONE, console, show

from flipkd_sdk.cli.evaluation.drift import DriftCheck, MeasureDrift, Sample
from flipkd_sdk.cli.evaluation.drift_report import drift_html
from flipkd_sdk.evaluation.drift import Drift, histogram

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver import Chrome

MARKUP = "</td></table><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    stored = histogram(random.normal(size=500))
    drift = Drift(stored, stored.count(random.normal(1, 1, size=300)))
    measures = [MeasureDrift(name, drift, stored.edges.tolist()) for name in ("score", "unknown", "similarity")]
    found = DriftCheck(
        matcher=MARKUP,
        ran="int8 on cpu",
        profile="500 pairs and 500 texts",
        sample=Sample(f"{MARKUP}.csv", 300, [MARKUP] * 300),
        pairs=300,
        texts=300,
        blank_texts=0,
        truncated_texts=0,
        measures=measures,
        unlike=[(MARKUP, 0.1), ("unbroken" * 40, 0.2), ("\u202egnirts desrever", 0.3)],
    )
    path = tmp_path / "drift.html"
    path.write_text(drift_html(found, 0.25), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_shows_hostile_texts_and_does_nothing_else(browser: Chrome, report: Path, dark: bool) -> None:
    show(browser, report, size=PHONE, dark=dark)
    browser.execute_script("for (const node of document.querySelectorAll('details')) node.open = true")
    assert browser.title == "Drift report"
    assert console(browser) == []
    assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
    assert browser.execute_script("return document.querySelectorAll('script, img, [onerror]').length") == 0
    assert MARKUP in browser.execute_script("return document.querySelector('#unlike').textContent")
    nodes = browser.find_elements("css selector", "summary, figure > svg, .scroll")
    assert len(nodes) >= 7
    assert all(node.accessible_name for node in nodes)


def test_each_bin_has_a_bar_for_both_times(browser: Chrome, report: Path) -> None:
    show(browser, report)
    bars = browser.execute_script("return document.querySelectorAll('#score figure > svg rect').length")
    shares = browser.execute_script(
        "return [...document.querySelectorAll('#score tbody td:not(.text)')].map((cell) => cell.textContent)"
    )
    assert len(shares) == 24
    assert bars == sum(share not in ("0.0%",) for share in shares)
