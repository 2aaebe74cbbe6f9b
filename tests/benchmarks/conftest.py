from __future__ import annotations

import sys
from pathlib import Path

# The benchmarks are folders of scripts, which Python finds when one of them is run.
sys.path[:0] = [str(Path(__file__).parents[2] / "benchmarks" / name) for name in ("peers", "experiments")]
