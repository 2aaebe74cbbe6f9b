"""Scores pairs on a machine with 512 MB: line by line from standard input, in memory that does not grow.

    python examples/small_machine.py demo/matcher < pairs.tsv > scored.tsv

Each line contains two texts separated by a tab; the output has the score in front. To check it, limit the memory:

    docker run --rm -i -m 512m --cpus 1 ...
    systemd-run --scope -p MemoryMax=512M -p MemorySwapMax=0 python examples/small_machine.py demo/matcher < pairs.tsv
"""

from __future__ import annotations

import itertools
import resource
import sys
from typing import TYPE_CHECKING

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 1000
"""Number of pairs scored at a time: enough to run texts of equal length together, few enough for little memory."""


def chunks() -> Iterator[list[tuple[str, str]]]:
    """Yield the pairs on standard input, some at a time."""
    pairs = (tuple(line.rstrip("\n").split("\t")) for line in sys.stdin)
    while chunk := list(itertools.islice(pairs, ROWS)):
        yield chunk  # type: ignore[misc]  # score_pairs refuses lines that are no pairs


def main(directory: str) -> None:
    """Score standard input to standard output."""
    # Each of these options saves memory: one thread's buffers, short runs, and the vectors of few texts.
    with Matcher.load(directory, device="cpu", threads=1, max_batch_tokens=512, cache_size=5000) as matcher:
        for chunk in chunks():
            for (a, b), score in zip(chunk, matcher.score_pairs(chunk), strict=True):
                print(f"{score:.6f}\t{a}\t{b}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{peak:.0f} MB at most; {matcher.truncated_texts} texts were cut, {matcher.blank_texts} were blank",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo/matcher")
