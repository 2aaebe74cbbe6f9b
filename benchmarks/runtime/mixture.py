"""Program that groups vectors drawn from a mixture, and prints seconds, recall and its peak of memory."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from memory import PEAK, memory_mb

from flipkd_sdk.evaluation.calibration import Calibration
from flipkd_sdk.evaluation.cosines import row_cosines
from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts
from flipkd_sdk.runtimes.linkage import proposals
from flipkd_sdk.runtimes.linkage.dedupe import group
from flipkd_sdk.runtimes.linkage.near_pairs import Pairs, near_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_TOPICS, _PER_GROUP = 1000, 4
_CHUNK = 1 << 14
_SAMPLE = 2000
_THRESHOLD = 0.5


class VectorDecider:
    """Decider on texts that are the numbers of vectors, by the cosine."""

    threshold = _THRESHOLD
    search_threshold = _THRESHOLD
    has_head = False
    # Half of the pairs of one group reach a probability of 0.5.
    calibration = Calibration(30.0, -30.0 * 0.9, _THRESHOLD, "f1", 1)

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.float32]:
        """Implement `Decider.score_pairs`."""
        a, b = np.array([*pairs], dtype=np.int64).reshape(-1, 2).T
        return self.calibration.probability(row_cosines(self._vectors, a, self._vectors, b))

    def never_match(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Implement `Decider.never_match`."""
        return np.zeros(len(texts), dtype=np.bool_)


def mixture(rows: int, dimension: int) -> NDArray[np.float32]:
    """Return unit vectors in groups of four on the average, in topics, with a spectrum that falls as that of texts."""
    random = np.random.default_rng(0)
    scales = (np.arange(1, dimension + 1) ** -0.7).astype(np.float32)
    topics = random.standard_normal((_TOPICS, dimension), dtype=np.float32)
    groups = max(1, rows // _PER_GROUP)
    of_group = random.integers(0, groups, rows)
    vectors = np.empty((rows, dimension), dtype=np.float32)
    for start in range(0, rows, _CHUNK):
        chunk = of_group[start : start + _CHUNK]
        # Each group has its own seed, so that its centre need not be kept.
        centres = np.stack([np.random.default_rng(g).standard_normal(dimension, dtype=np.float32) for g in chunk])
        drawn = topics[chunk % _TOPICS] + centres + 0.45 * random.standard_normal(centres.shape, dtype=np.float32)
        drawn *= scales
        vectors[start : start + _CHUNK] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return vectors


def recall(vectors: NDArray[np.float32], found: Pairs, least: float, most: int) -> float:
    """Return the share of the exact pairs of some vectors that were found."""
    rows = np.random.default_rng(1).choice(len(vectors), min(_SAMPLE, len(vectors)), replace=False)
    exact = near_pairs(vectors[rows], vectors, least=least, most=most + 1)
    a, b = rows[exact.a], exact.b
    apart = a != b
    # Without the vector itself, the nearest ones that are left.
    a, b = a[apart], b[apart]
    keys = np.minimum(a, b) * len(vectors) + np.maximum(a, b)
    return float(np.isin(keys, found.a * len(vectors) + found.b).mean())


def main() -> None:
    """Draw the vectors, group them and compare the pairs with the exact ones."""
    rows, dimension, search = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    vectors = mixture(rows, dimension)
    before = memory_mb(PEAK)
    proposed: dict[str, Any] = {}
    original = proposals.proposed

    def noted(*arguments: Any, **options: Any) -> Pairs:
        start = time.perf_counter()
        pairs = original(*arguments, **options)
        proposed.update(pairs=pairs, seconds=time.perf_counter() - start, **options)
        return pairs

    import flipkd_sdk.runtimes.linkage.dedupe as grouping

    grouping.proposed = noted
    texts = DistinctTexts([str(row) for row in range(rows)], np.arange(rows), "text {}".format)
    decider = VectorDecider(vectors)
    start = time.perf_counter()
    groups = group(decider, texts, vectors, least=_THRESHOLD, search=search).groups(decider, _THRESHOLD)
    seconds = time.perf_counter() - start
    peak = memory_mb(PEAK)
    found = {
        "vectors": rows,
        "dimension": dimension,
        "search": search,
        "searching_seconds": proposed["seconds"],
        "beyond_encoding_seconds": seconds,
        "pairs": len(proposed["pairs"].a),
        "recall": recall(vectors, proposed["pairs"], proposed["least"], proposed["most"]),
        "groups": groups.count,
        "peak_mb": peak,
        "peak_of_drawing_mb": before,
        "vectors_mb": vectors.nbytes / 1e6,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
