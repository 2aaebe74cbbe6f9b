from __future__ import annotations

import numpy as np
import pytest

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.training.config.schema import NoiseFilterConfig
from flipkd_sdk.training.data.noise_filter import filter_noise

COSINE = np.array([0.9, 0.2, 0.6, 0.8, 0.1, 0.4], dtype=np.float32)
LABEL = np.array([1, 1, 1, 0, 0, 0], dtype=np.int8)


def test_by_default_nothing_is_dropped() -> None:
    noise = filter_noise(COSINE, LABEL, NoiseFilterConfig())
    assert noise.keep.all()
    assert (noise.positive_floor, noise.negative_ceiling) == (-1.0, 1.0)


def test_thresholds_by_value() -> None:
    noise = filter_noise(COSINE, LABEL, NoiseFilterConfig(positive_floor=0.6, negative_ceiling=0.7))
    assert noise.keep.tolist() == [True, False, True, False, True, True]
    assert noise.dropped(LABEL, 1).tolist() == [1]
    assert noise.dropped(LABEL, 0).tolist() == [3]


def test_thresholds_by_quantile_are_those_of_the_class() -> None:
    noise = filter_noise(COSINE, LABEL, NoiseFilterConfig(positive_quantile=0.5, negative_quantile=0.5))
    assert noise.positive_floor == pytest.approx(0.6)
    assert noise.negative_ceiling == pytest.approx(0.4)
    assert noise.keep.tolist() == [True, False, True, False, True, True]


def test_a_value_comes_before_a_quantile() -> None:
    noise = filter_noise(COSINE, LABEL, NoiseFilterConfig(positive_floor=-1.0, positive_quantile=0.5))
    assert noise.keep.all()


def test_cosines_that_rounding_has_moved_out_of_range_are_kept() -> None:
    cosine = np.array([-1.0000002, 0.5, 1.0000002], dtype=np.float32)
    assert filter_noise(cosine, np.array([1, 1, 0], dtype=np.int8), NoiseFilterConfig()).keep.all()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (NoiseFilterConfig(positive_floor=0.95), "noise_filter.positive_floor drops every training pair with label 1"),
        (NoiseFilterConfig(negative_ceiling=0.05), "noise_filter.negative_ceiling drops every .* with label 0"),
    ],
)
def test_a_filter_that_leaves_no_pair_of_a_label_is_refused(config: NoiseFilterConfig, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        filter_noise(COSINE, LABEL, config)
