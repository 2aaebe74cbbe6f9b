"""A headless Chromium for tests of pages; they are skipped where none is installed."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

PHONE = (375, 812)
DESKTOP = (1280, 900)


@contextmanager
def chromium() -> Iterator[Chrome]:
    """Start Chromium, and end it with the block."""
    from selenium import webdriver

    names = ("chromium", "google-chrome")
    binary = next((path for path in map(shutil.which, names) if path), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("Chromium and chromedriver are not installed; run: make chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # The sandbox needs a user other than root; /dev/shm is small in containers.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def show(browser: Chrome, page: Path, *, size: tuple[int, int] = DESKTOP, dark: bool = False) -> None:
    """Open a file at a size in CSS pixels, with the user's preference for dark or light."""
    open_address(browser, page.as_uri(), size=size, dark=dark)


def open_address(browser: Chrome, address: str, *, size: tuple[int, int] = DESKTOP, dark: bool = False) -> None:
    """Open an address at a size in CSS pixels, with the user's preference for dark or light."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # forgets what earlier pages logged
    browser.get(address)


def console(browser: Chrome) -> list[dict[str, Any]]:
    """Return what the page has written to the console, errors and violations of its policy among it."""
    return list(browser.get_log("browser"))


def screenshot(browser: Chrome, path: Path) -> None:
    """Save the whole page as PNG."""
    import base64

    size = browser.execute_script("return [document.body.scrollWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(shot["data"]))
