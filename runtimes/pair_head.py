"""Scores by the pair head: pairs in blocks of one shape, so that a pair's score depends on the pair alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.pair_head.cues import cues_of, pair_cues
from flipkd_sdk.pair_head.scoring import Tokens, alignments, pair_logits
from flipkd_sdk.runtimes.encoding.batching import padded_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.pair_head.weights import HeadWeights
    from flipkd_sdk.runtimes.encoding.text_tokens import TextTokens

_BLOCK_NUMBERS = 1 << 17
"""Numbers of a block's largest intermediate result, half a megabyte, which stays in a CPU's cache."""


class PairHead:
    """An open pair head; safe to share between threads.

    Args:
        weights: of the head.
        max_length: most tokens of a text.
    """

    def __init__(self, weights: HeadWeights, max_length: int) -> None:
        self._weights = weights
        self._max_length = max_length
        self._features = weights.compare_1.shape[1]

    def logits(
        self,
        texts: Sequence[str],
        tokens: Sequence[TextTokens],
        a: NDArray[np.int64],
        b: NDArray[np.int64],
        cosines: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return the head's number for ``texts[a[i]]`` and ``texts[b[i]]`` for each i, shape (n,).

        Args:
            texts: distinct texts.
            tokens: their tokens.
            a: indices of texts, shape (n,).
            b: indices of texts, shape (n,).
            cosines: of the pairs, shape (n,).
        """
        widths = np.array([padded_length(len(text.ids), self._max_length) for text in tokens], dtype=np.int64)
        # Either order of two texts becomes the same one, so that both have the same bits.
        swapped = np.array(
            [(widths[i], texts[i]) > (widths[j], texts[j]) for i, j in zip(a.tolist(), b.tolist(), strict=True)],
            dtype=np.bool_,
        )
        a, b = np.where(swapped, b, a), np.where(swapped, a, b)
        cues = [cues_of(text) for text in texts]
        logits = np.empty(len(a), dtype=np.float32)
        shapes = widths[a] * (self._max_length + 1) + widths[b]
        order = np.argsort(shapes, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(shapes[order])) + 1) if len(order) else ():
            wide = int(widths[a[group[0]]]), int(widths[b[group[0]]])
            step = max(1, _BLOCK_NUMBERS // (max(wide) * max(self._features, *wide)))
            for start in range(0, len(group), step):
                rows = group[start : start + step]
                first, second = a[rows].tolist(), b[rows].tolist()
                logits[rows] = pair_logits(
                    self._weights,
                    _padded([tokens[i] for i in first], wide[0]),
                    _padded([tokens[i] for i in second], wide[1]),
                    cosines[rows],
                    pair_cues([cues[i] for i in first], [cues[i] for i in second]),
                )
        return logits

    def alignment(self, a: TextTokens, b: TextTokens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the share of each token of a aligned with each one of b, shape (n, m), and the reverse, (m, n)."""
        forward, backward = alignments(self._weights, _padded([a], len(a.ids)), _padded([b], len(b.ids)))
        return forward[0], backward[0]


def _padded(texts: Sequence[TextTokens], width: int) -> Tokens:
    ids = np.full((len(texts), width), -1, dtype=np.int64)
    vectors = np.zeros((len(texts), width, texts[0].vectors.shape[1]), dtype=np.float32)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = text.ids
        vectors[row, : len(text.ids)] = text.vectors
    return Tokens(ids, vectors)
