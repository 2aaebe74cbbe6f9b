from __future__ import annotations

import sys
from pathlib import Path

# The benchmark is a folder of scripts, which Python finds when one of them is run.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "peers"))
