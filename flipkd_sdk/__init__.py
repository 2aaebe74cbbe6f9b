"""flipkd_sdk: a small encoder teaches an LLM to match texts, and the result runs without PyTorch.

The public names are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flipkd_sdk.errors import (
        CandidateSetError,
        ConfigError,
        ExecutionError,
        FlipKDError,
        HubError,
        InvalidPairsError,
        InvalidTextError,
        MatcherClosedError,
        MatcherDirectoryError,
        ModelSourceError,
        OutputExistsError,
        SelfTestError,
        TextTooLongError,
        TrainingError,
        UnsupportedFormatError,
        VerificationError,
    )
    from flipkd_sdk.runtimes.matcher import Matcher
    from flipkd_sdk.runtimes.search.candidates import CandidateSet
    from flipkd_sdk.runtimes.search.match import Match
    from flipkd_sdk.runtimes.serving.async_matcher import AsyncMatcher
    from flipkd_sdk.runtimes.serving.microbatch import MicroBatcher

__version__ = "0.1.0"

__all__ = [
    "AsyncMatcher",
    "CandidateSet",
    "CandidateSetError",
    "ConfigError",
    "ExecutionError",
    "FlipKDError",
    "HubError",
    "InvalidPairsError",
    "InvalidTextError",
    "Match",
    "Matcher",
    "MatcherClosedError",
    "MatcherDirectoryError",
    "MicroBatcher",
    "ModelSourceError",
    "OutputExistsError",
    "SelfTestError",
    "TextTooLongError",
    "TrainingError",
    "UnsupportedFormatError",
    "VerificationError",
    "__version__",
]

_HOMES = {
    "AsyncMatcher": "flipkd_sdk.runtimes.serving.async_matcher",
    "CandidateSet": "flipkd_sdk.runtimes.search.candidates",
    "Match": "flipkd_sdk.runtimes.search.match",
    "Matcher": "flipkd_sdk.runtimes.matcher",
    "MicroBatcher": "flipkd_sdk.runtimes.serving.microbatch",
}
"""Module of each public name; all others are errors."""


# Python started in the root of a checkout finds this folder before the installed package. The other parts of the
# package are then beside it.
_HERE = Path(__file__).parent
if not (_HERE / "runtimes").is_dir():
    __path__.append(str(_HERE.parent))


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module protocol of PEP 562
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "flipkd_sdk.errors")), name)


def __dir__() -> list[str]:
    return __all__
