"""Open a system and score one pair in a fresh process, as a command or a serverless function does.

    python -m peers.cold SPEC.json

Prints the resident memory in MB after the first score; bench.py measures the time until then.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from peers.systems import SystemSpec, open_system

if __name__ == "__main__":
    spec = SystemSpec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    system = open_system(spec)
    system.score("How can I reset my password?", "I forgot my password, what now?")
    from memory import memory_mb

    print(memory_mb(), file=answer, flush=True)
