from __future__ import annotations

import os
from typing import TYPE_CHECKING

# Test processes that run beside each other compute on one thread each. Set before torch and onnxruntime are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import pytest
from hypothesis import HealthCheck, settings
from tiny import write_tiny_matcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

# A busy machine is no failure.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def tiny_matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matcher directory with an fp32 and an int8 variant; tests that change it must copy it."""
    return write_tiny_matcher(tmp_path_factory.mktemp("matchers") / "tiny", precisions=("fp32", "int8"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Chrome]:
    """A headless Chromium, started once; the test is skipped where there is none."""
    from browser import chromium

    with chromium() as driver:
        yield driver
