"""The README fits on a screen or three, its links lead somewhere, and its example prints what it says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from readme_example import README, documented_output, printed_output

if TYPE_CHECKING:
    from pathlib import Path

ROOT = README.parent


def test_the_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    assert len(text.split()) <= 1000


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_example_prints_what_the_readme_says() -> None:
    matcher = ROOT / "demo" / "matcher"
    if not matcher.is_dir():
        pytest.skip("make demo has not made demo/matcher; tests/end_to_end/test_real.py runs the example too")
    assert printed_output(matcher) == documented_output()
