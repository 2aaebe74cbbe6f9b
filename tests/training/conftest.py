from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch
from tiny_models import write_tiny_llama, write_tiny_run, write_tiny_teacher

from flipkd_sdk.evaluation import bootstrap
from flipkd_sdk.training.loop import callback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(bootstrap, "RESAMPLES", 50)
        # What a toy gains on 24 pairs may always be chance; undone, it would be the student that it started as.
        monkeypatch.setattr(callback, "CERTAINTY", 0.0)
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_intervals() -> Iterator[None]:
    """Bootstrap intervals take most of the time of a tiny run; tests of other folders keep all resamples."""
    with few_resamples():
        yield


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's cache; and toy models are fastest on one thread."""
    path = tmp_path_factory.mktemp("cache")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FLIPKD_CACHE", str(path))
        yield path
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_teacher(tmp_path_factory.mktemp("models") / "teacher")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run directory; tests that change it must copy it."""
    with few_resamples():
        return write_tiny_run(tmp_path_factory.mktemp("runs") / "run")
