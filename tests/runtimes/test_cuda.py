"""What only a GPU can show. Which provider is chosen is tested everywhere, in test_session.py and test_opening.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny import TEXTS

from flipkd_sdk.errors import ExecutionError
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx.session import cuda_is_built_in

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not cuda_is_built_in(), reason="needs onnxruntime-gpu and a CUDA device"),
]

PAIRS = [(a, b) for a in TEXTS for b in TEXTS]


def load(directory: Path, **options: object) -> Matcher:
    try:
        return Matcher.load(directory, precision="fp32", on_truncate="ignore", **options)  # type: ignore[arg-type]
    except ExecutionError as error:
        pytest.skip(f"onnxruntime has CUDA, this machine has not: {error}")


def test_cuda_scores_as_the_cpu_does(tiny_matcher: Path) -> None:
    with load(tiny_matcher, device="cuda") as gpu, load(tiny_matcher, device="cpu") as cpu:
        assert gpu.device == "cuda"
        np.testing.assert_allclose(gpu.score_pairs(PAIRS), cpu.score_pairs(PAIRS), atol=1e-5)


def test_on_cuda_a_pair_scores_alike_alone_and_in_a_batch(tiny_matcher: Path) -> None:
    with load(tiny_matcher, device="cuda:0") as gpu:
        alone = [gpu.score(a, b) for a, b in PAIRS]
        np.testing.assert_allclose(gpu.score_pairs(PAIRS), alone, atol=1e-6)


def test_little_device_memory_is_an_error_of_this_package(tiny_matcher: Path) -> None:
    with load(tiny_matcher, device="cuda") as gpu:
        gpu.score("a", "b")
    with pytest.raises(ExecutionError), load(tiny_matcher, device="cuda", gpu_mem_limit=1) as starved:
        starved.score_pairs(PAIRS)


def test_auto_chooses_cuda(tiny_matcher: Path) -> None:
    with load(tiny_matcher, device="cuda"), load(tiny_matcher, device="auto") as matcher:
        assert matcher.device == "cuda"


def test_a_device_that_is_not_there_is_an_error(tiny_matcher: Path) -> None:
    with load(tiny_matcher, device="cuda"), pytest.raises(ExecutionError):
        Matcher.load(tiny_matcher, device="cuda:99")
