from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny import TEXTS
from tiny_models import tiny_pairs, write_tiny_teacher

from flipkd_sdk.training.config.schema import TeacherConfig
from flipkd_sdk.training.evaluate_models import development_measures
from flipkd_sdk.training.fine_tuning import fine_tune
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.teacher import load_teacher

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_fine_tuning_learns_the_pairs_and_the_result_can_be_loaded(tmp_path: Path, pooling: str) -> None:
    teacher = load_teacher(resolve(str(write_tiny_teacher(tmp_path / "raw", pooling=pooling))), max_length=48)
    pairs = tiny_pairs(40, seed=3)
    # Against the teacher's own inclination: what shares its words is no match.
    pairs = type(pairs)(pairs.a, pairs.b, 1 - pairs.label)
    development = partial(development_measures, teacher.encode, pairs)
    before, revision = development()["average_precision"], teacher.revision
    config = TeacherConfig(epochs=4, learning_rate=5e-3, batch_size=8)
    tuned = fine_tune(teacher, pairs, config, development=development, run_directory=tmp_path, seed=0)
    after = development_measures(tuned.encode, pairs)["average_precision"]
    assert after > before + 0.1
    loaded = load_teacher(resolve(str(tmp_path / "teacher")), max_length=48)
    assert loaded.encoder.pooling == pooling
    assert loaded.revision == tuned.revision != revision
    assert np.array_equal(loaded.encode(TEXTS), tuned.encode(TEXTS))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {record["stage"] for record in records} == {"teacher"}
    assert after == max(record.get("average_precision", 0.0) for record in records)
