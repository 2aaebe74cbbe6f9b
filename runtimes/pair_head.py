"""Scores by the pair head: pairs in blocks of one width, so that a pair's score depends on the pair alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.pair_head.cues import pair_cues, weight_of_head
from flipkd_sdk.pair_head.scoring import Tokens, alignments, cosine_logits, directions, pair_logits
from flipkd_sdk.runtimes.encoding.batching import padded_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.pair_head.weights import HeadWeights
    from flipkd_sdk.runtimes.encoding.text_tokens import TextTokens

_BLOCK_NUMBERS = 1 << 18
"""Numbers of a block's largest intermediate result, a megabyte, which stays in a CPU's cache."""


class PairHead:
    """An open pair head; safe to share between threads.

    Args:
        weights: of the head.
        max_length: most tokens of a text.
    """

    def __init__(self, weights: HeadWeights, max_length: int) -> None:
        self._weights = weights
        self._max_length = max_length
        self._cues = weights.cue_reader()
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
        if not len(a):
            return np.empty(0, dtype=np.float32)
        cues = [self._cues(text) for text in texts]
        of_pairs = pair_cues([cues[i] for i in a.tolist()], [cues[i] for i in b.tolist()])
        # Most pairs of texts in other words need no more than their cosine.
        logits = cosine_logits(self._weights, cosines)
        decided = np.flatnonzero(weight_of_head(of_pairs[:, : self._weights.cues]))
        if not len(decided):
            return logits
        joined = _Joined(self._weights, tokens)
        padded = np.array([padded_length(len(text.ids), self._max_length) for text in tokens], dtype=np.int64)
        widths = np.maximum(padded[a], padded[b])
        order = decided[np.argsort(widths[decided], kind="stable")]
        for group in np.split(order, np.flatnonzero(np.diff(widths[order])) + 1):
            width = int(widths[group[0]])
            step = max(1, _BLOCK_NUMBERS // (2 * width * max(self._features, width)))
            for start in range(0, len(group), step):
                rows = group[start : start + step]
                texts_of_rows = np.concatenate([a[rows], b[rows]])
                logits[rows] = pair_logits(
                    self._weights, joined.padded(texts_of_rows, width), cosines[rows], of_pairs[rows]
                )
        return logits

    def alignment(self, a: TextTokens, b: TextTokens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the share of each token of a aligned with each one of b, shape (n, m), and the reverse, (m, n)."""
        n, m = len(a.ids), len(b.ids)
        joined = _Joined(self._weights, (a, b)).padded(np.arange(2), max(n, m))
        forward, backward = alignments(self._weights, joined)
        return forward[:n, :m], backward[:m, :n]


class _Joined:
    """Tokens of all texts in one row, followed by one of padding."""

    def __init__(self, weights: HeadWeights, tokens: Sequence[TextTokens]) -> None:
        self._lengths = np.array([len(text.ids) for text in tokens], dtype=np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._ids = np.concatenate([*(text.ids for text in tokens), [-1]], dtype=np.int64, casting="unsafe")
        nothing = np.zeros((1, weights.dimension), dtype=np.float32)
        self._vectors = np.concatenate([*(text.vectors for text in tokens), nothing])
        self._directions = directions(weights, self._vectors)

    def padded(self, texts: NDArray[np.int64], width: int) -> Tokens:
        """Return the tokens of some texts, padded to one width."""
        columns = np.arange(width)
        real = columns < self._lengths[texts][:, None]
        index = np.where(real, self._starts[texts][:, None] + columns, len(self._ids) - 1)
        return Tokens(self._ids[index], self._vectors[index], self._directions[index])
