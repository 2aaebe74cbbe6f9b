"""The documentation builds as a site, strictly and offline, and describes all that is public."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flipkd_sdk
from flipkd_sdk import errors
from flipkd_sdk.training.config.presets import PRESETS
from flipkd_sdk.training.config.schema import TrainConfig

pytest.importorskip("mkdocstrings", reason="mkdocs-material and mkdocstrings are not installed: pip install '.[docs]'")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    # A proxy that refuses every connection: nothing is fetched while the site is built.
    environment = os.environ | {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    environment["NO_MKDOCS_2_WARNING"] = "1"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out


def headings(page: Path) -> set[str]:
    return set(re.findall(r'<h\d id="([^"]+)"', page.read_text(encoding="utf-8")))


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r'<(?:script|img|iframe)[^>]* src="(?:https?:)?//|<link[^>]* href="(?:https?:)?//')
    assert [page.name for page in site.rglob("*.html") if loaded.search(page.read_text(encoding="utf-8"))] == []


def test_the_reference_has_every_public_name(site: Path) -> None:
    found = {name.rsplit(".", 1)[-1] for name in headings(site / "reference" / "index.html")}
    assert set(flipkd_sdk.__all__) - {"__version__"} - found == set()


def test_the_reference_has_every_error(site: Path) -> None:
    found = {name.rsplit(".", 1)[-1] for name in headings(site / "reference" / "index.html")}
    assert {name for name, kind in vars(errors).items() if isinstance(kind, type)} - found == set()


def test_the_options_page_has_every_option_and_preset(site: Path) -> None:
    page = site / "training-options" / "index.html"
    found = headings(page)
    for name, field in TrainConfig.model_fields.items():
        section = getattr(field.annotation, "model_fields", None)
        kind = "TrainConfig" if section is None else field.annotation.__name__
        for option in section or [name]:
            assert f"flipkd_sdk.training.config.schema.{kind}.{option}" in found
    text = page.read_text(encoding="utf-8")
    assert [name for name in PRESETS if f'preset = "{name}"' not in text.replace("&quot;", '"')] == []


def test_every_page_is_reached_from_the_contents(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    linked = set(re.findall(r'class="md-nav__link"[^>]*|href="([a-z-]+)/"', (site / "index.html").read_text()))
    assert pages - linked == set()
