from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from node_process import Node, node_process

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    with node_process() as running:
        yield running
