from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny import write_tiny_matcher

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matcher directory with an fp32 and an int8 variant; tests that change it must copy it."""
    return write_tiny_matcher(tmp_path_factory.mktemp("matchers") / "tiny", precisions=("fp32", "int8"))
