from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tiny_data import encode
from tiny_models import tiny_pairs

from flipkd_sdk.evaluation import metrics
from flipkd_sdk.evaluation.encoders import encoder_agreement, encoder_cosines
from flipkd_sdk.training.evaluate_models import development_measures

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_development_is_measured_by_the_labels_and_by_the_teacher_with_each_text_encoded_once() -> None:
    pairs = tiny_pairs(20)
    seen: list[str] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return encode(texts)

    teacher = np.random.default_rng(0).standard_normal((len(pairs.texts), 8)).astype(np.float32)
    expected = metrics.average_precision(encoder_cosines(encode, pairs), pairs.label)
    assert development_measures(counting, pairs) == {"average_precision": expected}
    assert len(seen) == len(set(seen))
    assert development_measures(encode, pairs, teacher) == {
        "average_precision": expected,
        "agreement": encoder_agreement(encode(pairs.texts), teacher),
    }
