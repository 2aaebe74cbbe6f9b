"""flipkd_sdk: a small encoder teaches an LLM to match texts, and the result runs without PyTorch.

The names below are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flipkd_sdk.errors import (
        ConfigError,
        ExecutionError,
        FlipKDError,
        InvalidPairsError,
        InvalidTextError,
        MatcherClosedError,
        MatcherDirectoryError,
        ModelSourceError,
        OutputExistsError,
        TextTooLongError,
        TrainingError,
        UnsupportedFormatError,
        VerificationError,
    )
    from flipkd_sdk.runtimes.matcher import Match, Matcher

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "ExecutionError",
    "FlipKDError",
    "InvalidPairsError",
    "InvalidTextError",
    "Match",
    "Matcher",
    "MatcherClosedError",
    "MatcherDirectoryError",
    "ModelSourceError",
    "OutputExistsError",
    "TextTooLongError",
    "TrainingError",
    "UnsupportedFormatError",
    "VerificationError",
    "__version__",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module protocol of PEP 562
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "flipkd_sdk.runtimes.matcher" if name in ("Match", "Matcher") else "flipkd_sdk.errors"
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
