"""The page of examples/browser in Chromium: it ranks in a worker, and opens without a server after the first visit."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import chromium, console
from node_process import PACKAGE
from tiny import TEXTS, add_self_test, write_tiny_matcher

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
FAQ = [text for text in TEXTS if text.strip()]
SECONDS = 300
"""Longest wait; a test machine may be busy."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(directory))

        def log_message(self, *_: object) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/"
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_tiny_matcher(tmp_path_factory.mktemp("matcher"))
    add_self_test(path)
    return path


@pytest.fixture(scope="module")
def site(matcher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    node = shutil.which("node")
    if node is None or not (PACKAGE / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("Node.js or the packages of runtimes/javascript are not installed; run: make javascript")
    faq, site = matcher.with_name("faq.txt"), matcher.with_name("site")
    faq.write_text("\n".join(FAQ), encoding="utf-8")
    subprocess.run(
        [node, EXAMPLE / "prepare.mjs", matcher, faq, site], check=True, capture_output=True, timeout=SECONDS
    )
    return site


def wait(browser: Any, ready: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.2)
    pytest.fail(f"not ready: {browser.page_source[:2000]} {console(browser)}")


def test_the_page_ranks_as_the_matcher_does_and_opens_offline(site: Path, matcher: Path) -> None:
    with Matcher.load(matcher, on_truncate="ignore") as python:
        expected = [match.text for match in python.rank("my card PIN", FAQ, top_k=5)]
    with chromium() as browser:
        with served(site) as address:
            browser.get(address)
            assert ask(browser, "my card PIN") == expected
            offline = "return navigator.serviceWorker.ready.then(() => caches.keys()).then((names) => names.length)"
            wait(browser, lambda: browser.execute_script(offline))
        # The server is gone.
        browser.get(address)
        assert ask(browser, "my card PIN") == expected
        assert [entry for entry in console(browser) if entry["level"] == "SEVERE"] == []


def ask(browser: Any, text: str) -> list[str]:
    """Type a question when the page is ready, and return the entries that it shows."""
    query = browser.find_element("id", "query")
    wait(browser, query.is_enabled)
    query.send_keys(text)

    def shown() -> list[str]:
        found = [item.text for item in browser.find_elements("css selector", "#matches li span")]
        return found if " ms" in browser.find_element("id", "state").text else []

    first = wait(browser, shown)
    # The answer to the last letter replaces those to the letters before.
    time.sleep(1)
    return shown() or first
