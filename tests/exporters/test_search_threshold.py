from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.manifest import read_manifest
from flipkd_sdk.exporters.directory.search_threshold import _intents
from flipkd_sdk.exporters.export import export
from flipkd_sdk.pairs import Pairs
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from flipkd_sdk.exporters.export import ExportOptions

DEV = Pairs(
    ("a", "b", "d", "a", "e", "g"),
    ("b", "c", "e", "d", "f", "h"),
    np.array([1, 1, 1, 0, 0, 0], np.int8),
)
"""a, b, c mean the same, and so do d and e, which is something else; f, g and h have no partner."""


def test_matches_are_closed_transitively() -> None:
    texts, intent, open_pairs = _intents(DEV, None, 0.95)
    groups = {frozenset(t for t, n in zip(texts, intent, strict=True) if n == number) for number in intent}
    assert groups == {frozenset("abc"), frozenset("de"), frozenset("f"), frozenset("g"), frozenset("h")}
    assert open_pairs == [[]] * 8


def test_texts_that_only_the_teacher_takes_for_matches_are_neither_right_nor_wrong() -> None:
    angle = dict(zip("abcdefgh", (0.0, 0.1, 0.2, 0.5, 0.3, 0.9, 0.15, 1.4), strict=True))
    vectors = np.array([[np.cos(angle[t]), np.sin(angle[t])] for t in DEV.texts], np.float32)
    texts, _, open_pairs = _intents(DEV, vectors, 0.7)
    found = {text: {texts[j] for j in row} for text, row in zip(texts, open_pairs, strict=True)}
    # a, b, c against d, e is settled by the label of a and d; g is near a, b and c, of which nothing is known.
    assert found["g"] >= {"a", "b", "c"}
    assert "g" in found["a"]
    assert not found["a"] & {"d", "e", "b", "c"}


def test_an_export_writes_a_search_threshold_and_a_sketch(exported_matcher: Path, tiny_run: Path) -> None:
    manifest, run = read_manifest(exported_matcher), read_run(tiny_run)
    dev = run.split("dev")
    assert dev is not None
    search = manifest.calibration.search
    assert search is not None
    assert search.precision == 0.95
    assert len(dev.texts) < search.searches <= 2 * len(dev.texts)
    assert manifest.familiarity is not None
    assert manifest.familiarity.texts == len(run.texts())
    with Matcher.load(exported_matcher, device="cpu", on_truncate="ignore") as matcher:
        assert matcher.search_threshold == search.threshold
        assert np.median(matcher.familiarity(dev.texts)) == pytest.approx(0.5, abs=0.1)


def test_a_run_of_an_earlier_release_without_its_texts_is_exported(
    tiny_run: Path, tmp_path: Path, wide: ExportOptions
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "splits" / "texts.csv").unlink()
    train = read_run(run).split("train")
    assert train is not None
    manifest = export(run, tmp_path / "matcher", wide)
    assert manifest.familiarity is not None
    assert manifest.familiarity.texts == len(train.texts)
