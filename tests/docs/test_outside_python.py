"""The reference implementation of docs/outside-python.md scores what `Matcher` scores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tiny import TEXTS

from flipkd_sdk import Matcher

PAGE = Path(__file__).resolve().parents[2] / "docs" / "outside-python.md"


def test_the_reference_implementation_scores_as_the_matcher_does(tiny_matcher: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(program.replace('"demo/matcher"', repr(str(tiny_matcher))), names)  # noqa: S102 - the project's own page
    with Matcher.load(tiny_matcher, precision="int8") as matcher:
        assert matcher.manifest.calibration.slope != 0
        texts = [text for text in TEXTS if matcher.encode([text]) is not None and len(text) < 40][:8]
        for a, b in zip(["", *texts], [*texts, " "], strict=True):
            assert names["score"](a, b) == pytest.approx(matcher.score(a, b), abs=1e-6)
