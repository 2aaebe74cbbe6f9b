"""Resident memory of a process that loads a matcher and scores the pairs on standard input."""

import json
import resource
import sys

from flipkd_sdk import Matcher
from runtime import status


def main() -> None:
    """Print what the process holds before it loads, after it has loaded, after all pairs, and at most."""
    before = status.resident_mb()
    matcher = Matcher.load(sys.argv[1], device="cpu", threads=2, on_truncate="ignore")
    loaded = status.resident_mb()
    scores = matcher.score_pairs(tuple(json.loads(line)) for line in sys.stdin)
    found = {
        "pairs": len(scores),
        "before_load_mb": before,
        "after_load_mb": loaded,
        "after_pairs_mb": status.resident_mb(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
