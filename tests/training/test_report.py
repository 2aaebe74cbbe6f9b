from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_evaluation import encode
from tiny_models import tiny_pairs

from flipkd_sdk.manifest import ModelReference
from flipkd_sdk.pairs import Pairs
from flipkd_sdk.training.config import validate_config
from flipkd_sdk.training.evaluation import evaluate
from flipkd_sdk.training.noise_filter import NoiseFilter
from flipkd_sdk.training.report import write_report
from flipkd_sdk.training.run_directory import RunResult

if TYPE_CHECKING:
    from pathlib import Path

NASTY = '<script>alert("x")</script>'
RECORDS: list[dict[str, Any]] = [
    {"stage": "alignment", "epoch": 0.5, "step": 20, "loss": 0.9, "similarity": 0.5, "alignment": 0.4},
    {"stage": "alignment", "epoch": 1.0, "step": 30, "average_precision": 0.7},
    {"stage": "labels", "epoch": 1.0, "step": 10, "loss": 0.9, "similarity": 0.4, "alignment": 0.3, "mcl": 0.2},
    {"stage": "labels", "epoch": 1.0, "step": 10, "average_precision": 0.8},
]


class Page(HTMLParser):
    """What a browser would load and run, and what a person would read."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page(path: Path, *, records: list[dict[str, Any]] = RECORDS, with_test: bool = True, filtered: bool = True) -> Page:
    pairs = tiny_pairs(6)
    train = Pairs((NASTY, *pairs.a[1:]), pairs.b, pairs.label)
    test = tiny_pairs(30, 2) if with_test else None
    evaluation = evaluate(encode, tiny_pairs(40, 1), test, objective="f1")
    keep = np.array([not filtered, True, True, not filtered, True, True])
    result = RunResult(
        sdk_version="0",
        student=ModelReference("toy-student", "0", "MIT"),
        teacher=ModelReference("toy-teacher", "0", "MIT"),
        calibration=evaluation.calibration,
        measures={"teacher": evaluation.measures, "student": evaluation.measures},
        pairs={"train": 6, "dev": 40, "test": 30 if with_test else 0},
        texts=12,
        truncated_texts=3,
        dropped_positives=int(filtered),
        dropped_negatives=int(filtered),
        trainable_parameters=1234567,
        seconds={"teacher": 1.5, "student": 2.5},
    )
    config = validate_config({"data": {"pairs": "pairs.csv"}, "teacher": {"source": NASTY}}, origin="test")
    systems = {"teacher": evaluation, "student": evaluation}
    write_report(path, config, result, systems, records, train, NoiseFilter(keep, 0.25, 0.75), train.take([]))
    return Page(path.read_text(encoding="utf-8"))


def test_the_report_stands_alone_and_runs_nothing(tmp_path: Path) -> None:
    report = page(tmp_path / "report.html")
    assert report.links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in report.links)
    assert "script" not in report.tags
    assert "link" not in report.tags
    assert "@import" not in report.text
    for link in report.links:
        drawing = base64.b64decode(link.partition(",")[2]).decode()
        assert not re.search(r'(?:href|src)="(?!#)', drawing)


def test_texts_of_the_user_are_shown_as_they_are(tmp_path: Path) -> None:
    report = page(tmp_path / "report.html")
    assert report.text.count(NASTY.partition("(")[0]) == 2  # the dropped pair, and the source in the configuration
    assert tiny_pairs(6).b[0] in report.text


def test_it_says_what_was_found(tmp_path: Path) -> None:
    text = " ".join(page(tmp_path / "report.html").text.split())
    assert "On the test split the student reaches an average precision of " in text
    assert "0.000 above its teacher's" in text
    assert "Systems on the test split (30 pairs)" in text
    assert "fitted on the 40 development pairs" in text
    assert "1 positives with a teacher cosine below 0.250 and 1 negatives above 0.750" in text
    assert "1,234,567 trained parameters" in text
    assert "teacher 1.5 s, student 2.5 s." in text
    assert "our reconstruction" in text


def test_without_a_test_split_it_speaks_of_the_development_split(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", with_test=False).text
    assert "On the dev split the student" in text
    assert "test split (" not in text


@pytest.mark.filterwarnings("error")
def test_a_run_without_training_has_a_report(tmp_path: Path) -> None:
    report = page(tmp_path / "report.html", records=[], filtered=False)
    assert "Dropped although labelled" not in report.text
    assert len(report.links) == 5
