from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flipkd_sdk.exporters.quantization.gptq import round_weight


def nearest(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.rint(weight / scale) * scale


def test_the_outputs_lose_less_than_by_rounding_to_nearest() -> None:
    draw = np.random.default_rng(0)
    mixed = draw.standard_normal((500, 12)) @ draw.standard_normal((12, 40)) + 0.1 * draw.standard_normal((500, 40))
    weight = draw.standard_normal((40, 9)).astype(np.float32)
    rounded = round_weight(weight, mixed.T @ mixed)

    def loss(values: np.ndarray) -> float:
        return float(np.square(mixed @ (values - weight)).sum())

    assert loss(rounded.integers * rounded.scale) < 0.5 * loss(nearest(weight, rounded.scale))


def test_inputs_without_correlation_are_rounded_to_nearest() -> None:
    weight = np.random.default_rng(1).standard_normal((100, 5)).astype(np.float32)
    rounded = round_weight(weight, np.diag(np.arange(1.0, 101.0)))
    assert np.allclose(rounded.integers * rounded.scale, nearest(weight, rounded.scale))


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 70), st.integers(1, 5)), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(0, 5),
)
def test_any_weight_and_any_sample_give_7_bits(weight: np.ndarray, tokens: int) -> None:
    sample = np.random.default_rng(0).standard_normal((tokens, len(weight)))
    rounded = round_weight(weight, sample.T @ sample)
    assert rounded.integers.shape == weight.shape
    assert np.abs(rounded.integers.astype(int)).max() <= 63
    assert np.isfinite(rounded.scale).all()
    assert (rounded.scale > 0).all()
