"""A million pairs and ten thousand concurrent requests: no error, no changed score, no growing memory."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from runtime.parts import run_program

if TYPE_CHECKING:
    from runtime.parts import Setting

_ROUNDS = 100
_PAIRS, _REQUESTS = 10_000, 100
_BAND = 0.05


def soak(setting: Setting) -> dict[str, Any]:
    """Run the soak program and compare its results with the target; the first fifth is the warm-up."""
    rounds = setting.size(_ROUNDS)
    found = run_program("soak_program", setting.matcher, rounds, _PAIRS, _REQUESTS)
    resident = found["resident_mb"]
    steady = resident[max(1, len(resident) // 5) :]
    middle = statistics.median(steady)
    spread = max(max(steady) / middle - 1, 1 - min(steady) / middle)
    return {
        **found,
        "resident_mb": [round(value, 1) for value in resident],
        "resident_mb_after_warm_up": middle,
        "largest_departure": spread,
        "target": "no error, bit-identical scores, resident memory within 5% of its median after the warm-up",
        "met": found["largest_change"] == 0 and spread <= _BAND,
    }
