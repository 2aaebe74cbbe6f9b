"""Resident memory of a process that loads a matcher and scores the pairs on standard input."""

import json
import sys

from memory import PEAK, memory_mb

from flipkd_sdk import Matcher


def main() -> None:
    """Print the memory before loading, after loading, after all pairs, and the peak."""
    before = memory_mb()
    matcher = Matcher.load(sys.argv[1], device="cpu", threads=2, on_truncate="ignore")
    loaded = memory_mb()
    scores = matcher.score_pairs(tuple(json.loads(line)) for line in sys.stdin)
    found = {
        "pairs": len(scores),
        "before_load_mb": before,
        "after_load_mb": loaded,
        "after_pairs_mb": memory_mb(),
        "peak_mb": memory_mb(PEAK),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
