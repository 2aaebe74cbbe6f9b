from __future__ import annotations

import sys
from pathlib import Path

# The benchmarks are run as `python benchmarks COMMAND`, which puts their folder on the path.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
