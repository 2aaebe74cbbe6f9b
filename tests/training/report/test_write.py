from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import DESKTOP, PHONE, console, show
from selenium.webdriver import Keys
from tiny_data import encode
from tiny_models import tiny_pairs

from flipkd_sdk.artifact.manifest import ModelReference
from flipkd_sdk.contrast import ContrastPair, ContrastSet
from flipkd_sdk.evaluation.behaviour import Behaviour, FailedPair, KindBehaviour
from flipkd_sdk.evaluation.evaluate import evaluate
from flipkd_sdk.pairs import Pairs
from flipkd_sdk.training.config.load import validate_config
from flipkd_sdk.training.data.noise_filter import NoiseFilter
from flipkd_sdk.training.data.splits import TrainingData
from flipkd_sdk.training.report.verdict import conclude
from flipkd_sdk.training.report.write import write_report
from flipkd_sdk.training.run_directory import RunResult

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver import Chrome

NASTY = '<script>alert("x")</script>'
RECORDS: list[dict[str, Any]] = [
    {"stage": "alignment", "epoch": 0.5, "step": 20, "loss": 0.9, "similarity": 0.5, "alignment": 0.4},
    {"stage": "alignment", "epoch": 1.0, "step": 30, "average_precision": 0.7},
    {"stage": "labels", "epoch": 1.0, "step": 10, "loss": 0.9, "similarity": 0.4, "alignment": 0.3, "mcl": 0.2},
    {"stage": "labels", "epoch": 1.0, "step": 10, "average_precision": 0.8},
]


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

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


DEV = tiny_pairs(40, 1)


def page(
    path: Path,
    *,
    records: list[dict[str, Any]] = RECORDS,
    with_test: bool = True,
    filtered: bool = True,
    behaviour: Behaviour | None = None,
    contrast: ContrastSet | None = None,
    **changes: Any,
) -> Page:
    pairs = tiny_pairs(6)
    train = Pairs((NASTY, *pairs.a[1:]), pairs.b, pairs.label)
    test = tiny_pairs(30, 2) if with_test else None
    evaluation = evaluate(encode, DEV, test, objective="f1")
    bounds = {
        split: {name: (interval.low, interval.high) for name, interval in found.items()}
        for split, found in evaluation.intervals.items()
    }
    keep = np.array([not filtered, True, True, not filtered, True, True])
    systems = {"teacher": evaluation, "student": evaluation}
    headline, sentences = conclude(systems, "test" if with_test else "dev")
    result = RunResult(
        sdk_version="0",
        student=ModelReference("toy-student", "0", "MIT"),
        teacher=ModelReference("toy-teacher", "0", "MIT"),
        calibration=evaluation.calibration,
        measures={"teacher": evaluation.measures, "student": evaluation.measures},
        intervals={"student": bounds},
        pairs={"train": 6, "dev": 40, "test": 30 if with_test else 0},
        texts=12,
        truncated_texts=3,
        dropped_positives=int(filtered),
        dropped_negatives=int(filtered),
        verdict=[headline, *sentences],
        trainable_parameters=1234567,
        seconds={"teacher": 1.5, "student": 2.5},
        **changes,
    )
    config = validate_config({"data": {"pairs": "pairs.csv"}, "teacher": {"source": NASTY}}, origin="test")
    data = TrainingData(train, DEV, test, frozenset(), train.texts)
    noise = NoiseFilter(keep, 0.25, 0.75)
    write_report(path, config, result, systems, records, data, noise, behaviour=behaviour, contrast=contrast)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    report = page(tmp_path / "report.html")
    assert report.links
    assert all(link.startswith("#") for link in report.links)
    assert report.tags.count("script") == 1
    assert {"link", "img", "iframe", "object"}.isdisjoint(report.tags)
    assert "@import" not in report.text and "url(" not in report.text


def test_texts_and_options_of_the_user_are_shown_as_they_are(tmp_path: Path) -> None:
    report = page(tmp_path / "report.html")
    # The dropped pair, and the teacher among the changed and among all options.
    assert report.text.count(NASTY.partition("(")[0]) == 3
    assert tiny_pairs(6).b[0] in report.text


def test_a_stage_that_was_undone_is_reported(tmp_path: Path) -> None:
    records = [*RECORDS, {"stage": "labels", "epoch": 1.0, "step": 10, "undone": 0.614}]
    said = "The labels stage was undone: it gained average precision in 61% of the bootstrap resamples"
    assert said in page(tmp_path / "report.html", records=records).text
    assert "undone" not in page(tmp_path / "report.html").text


def test_the_report_names_models_pairs_and_figures(tmp_path: Path) -> None:
    text = " ".join(page(tmp_path / "report.html").text.split())
    assert text.index("The student matches its teacher.") < text.index("Threshold and costs")
    assert "a difference of +0.000 (95% interval +0.000 to +0.000)" in text
    assert "Retrieval" not in text
    assert "pairs.csv: 6 train, 40 dev, 30 test" in text
    assert "Measures on the 30 test pairs" in text
    assert "fitted on the 40 development pairs" in text
    assert "1 matches with a teacher cosine below 0.250 and 1 non-matches above 0.750" in text
    assert "toy-student, 1,234,567 trained parameters" in text
    assert "teacher 1.5 s, student 2.5 s" in text
    assert "our reconstruction" in text


def test_options_that_differ_from_their_defaults_come_first(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html").text
    changed, _, every = text.partition("All options")
    changed = changed.partition("Options that differ from their defaults")[2]
    assert "data.pairspairs.csv" in changed
    assert "teacher.source" in changed and "student.rank" not in changed
    assert "student.rank128Rank of the adapters below the site." in every


def test_behaviour_by_kind_is_a_section_when_given(tmp_path: Path) -> None:
    failures = (FailedPair(NASTY, "b", 0.9),)
    behaviour = Behaviour(0.5, (KindBehaviour("negation", 0, 4, 3, failures),), None)
    text = page(tmp_path / "report.html", behaviour=behaviour).text
    assert "75.0% of 4 pairs of known kinds pass" in text
    assert f"score 0.900{NASTY}b" in text
    assert "Behaviour" not in page(tmp_path / "without.html").text


def test_contrast_pairs_are_shown_by_kind_with_those_left_out(tmp_path: Path) -> None:
    pairs = [ContrastPair(f"pay {i}", f"pay {i}0", 0, "amount") for i in range(1, 6)]
    pairs.append(ContrastPair(NASTY, "script", 1, "case"))
    text = page(tmp_path / "report.html", contrast=ContrastSet(tuple(pairs), 7)).text
    assert "learned from 6 contrast pairs" in text
    assert "7 more were left out because the labels call them a match" in text
    assert "amount: 5 pairs, no match" in text and "case: 1 pairs, a match" in text
    assert "pay 3" in text and "pay 4" not in text
    assert NASTY in text
    assert "ontrast pairs" not in page(tmp_path / "other.html").text.partition("All options")[0]


def test_without_a_test_split_it_speaks_of_the_development_split(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", with_test=False).text
    assert "On the 40 dev pairs" in text
    assert "There are no test pairs" in text
    assert "the 30 test pairs" not in text


@pytest.mark.filterwarnings("error")
def test_a_run_without_training_has_a_report(tmp_path: Path) -> None:
    report = page(tmp_path / "report.html", records=[], filtered=False)
    assert "Dropped although labelled" not in report.text
    assert "Loss terms" not in report.text
    assert report.tags.count("figure") == 3


def test_figures_have_their_intervals(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html").text
    evaluation = evaluate(encode, DEV, tiny_pairs(30, 2), objective="f1")
    for name in ("average_precision", "spearman", "accuracy", "calibration_error"):
        value, interval = evaluation.measures["test"][name], evaluation.intervals["test"][name]
        assert text.count(f"{value:.3f} {interval.low:.3f} to {interval.high:.3f}") == 1  # the student's alone
        assert text.count(f"{value:.3f}") >= 2


def test_the_errors_shown_are_the_surest_wrong_decisions_on_the_development_pairs(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html").text
    evaluation = evaluate(encode, DEV, None, objective="f1")
    score, threshold = evaluation.calibration.probability(evaluation.cosines["dev"]), evaluation.calibration.threshold
    _, _, errors = text.partition("False matches: called")
    false, _, missed = errors.partition("Borderline")[0].partition("Missed matches: called")
    for shown, label, direction in ((false, 0, -1), (missed, 1, 1)):
        wrong = [i for i in range(40) if DEV.label[i] == label and (score[i] >= threshold) != label]
        assert wrong
        wrong.sort(key=lambda i: direction * score[i])
        rows = [shown.index(DEV.a[i] + DEV.b[i]) for i in wrong[:8]]
        assert rows == sorted(rows)
        assert shown.count("how do I") == len(rows)
        assert f"{score[wrong[0]]:.3f}" in shown


def test_retrieval_has_a_warning_if_queries_occur_in_training(tmp_path: Path) -> None:
    found = {"student": {"top1": 0.9125, "mrr": 0.9344}, "teacher": {"top1": 0.5, "mrr": 0.75}}
    bounds = {"student": {"top1": (0.88, 0.95), "mrr": (0.9, 0.97)}}
    changes = {"retrieval": found, "retrieval_intervals": bounds, "queries": 3080, "exemplars": 10003}
    text = page(tmp_path / "report.html", **changes).text
    assert "Each of 3,080 queries was looked up among 10,003 exemplars." in " ".join(text.split())
    for shown in ("0.912 0.880 to 0.950", "0.934 0.900 to 0.970", "0.500", "0.750"):
        assert shown in text
    assert "inflated" not in text
    text = page(tmp_path / "report.html", **changes, learned_queries=7).text
    assert "7 queries also occur in training" in text


def test_the_report_works_in_a_browser(browser: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    page(path)
    for size, dark in ((PHONE, True), (DESKTOP, False)):
        show(browser, path, size=size, dark=dark)
        assert console(browser) == []
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    slider, missed = (browser.find_element("css selector", f'[data-part="{name}"]') for name in ("slider", "missed"))
    slider.send_keys(Keys.END)
    assert int(missed.text) == int((DEV.label == 1).sum())  # at the threshold 1 no pair is called a match
    slider.send_keys(Keys.HOME)
    assert int(missed.text) == 0
