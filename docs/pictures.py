"""Take the pictures of docs/pictures: ``python docs/pictures.py MATCHER TEXTS``, with Chromium and chromedriver."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
SIZE = (900, 640)


def main() -> None:
    """Start the pages, fill them in and take their pictures."""
    sys.path.append(str(ROOT / "tests"))
    from browser import chromium, open_address, screenshot, show
    from selenium.webdriver.support.ui import WebDriverWait
    from served import running

    from flipkd_sdk.cli.main import cli

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("matcher", type=Path, help="matcher directory")
    parser.add_argument("texts", type=Path, help="table with a column text")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)

    def explained(browser: Chrome) -> bool:
        return bool(browser.execute_script("return document.querySelector('.explanation') !== null"))

    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        with running("serve", options.matcher) as (address, _):
            open_address(browser, address, size=SIZE)
            browser.find_element("id", "a").send_keys("How do I reset the PIN of my card?")
            browser.find_element("id", "b").send_keys("I forgot my card's PIN, what now?")
            browser.find_element("css selector", "form[data-form=pair] button").click()
            WebDriverWait(browser, 120).until(explained)
            screenshot(browser, PICTURES / "serve.png")
        command = ("label", options.texts, "--matcher", options.matcher, "--out", Path(folder) / "labels.csv")
        with running(*command) as (address, _):
            open_address(browser, address, size=SIZE)
            WebDriverWait(browser, 120).until(explained)
            screenshot(browser, PICTURES / "label.png")
        page = Path(folder) / "groups.html"
        arguments = ["dedupe", options.matcher, options.texts, "--out", Path(folder) / "groups.csv", "--report", page]
        cli.main([*map(str, arguments)], standalone_mode=False)
        show(browser, page, size=SIZE)
        browser.execute_script("document.getElementById('threshold').scrollIntoView()")
        browser.save_screenshot(str(PICTURES / "groups.png"))


if __name__ == "__main__":
    main()
