"""The pair head in numpy.

Each token of a text is softly aligned with the tokens of the other text, or with none, and compared with what it is
aligned with (after Parikh et al., "A Decomposable Attention Model for Natural Language Inference", EMNLP 2016). Both
directions are computed alike and added up, so that the order of the texts does not matter. A pair's number does not
depend on its batch either: every matrix product is one of a single pair, and its shape follows from the pair alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flipkd_sdk.pair_head.weights import HeadWeights


class Tokens(NamedTuple):
    """One text of each of n pairs, padded to w tokens."""

    ids: NDArray[np.int64]
    """Token ids, −1 for padding, shape (n, w)."""
    vectors: NDArray[np.float32]
    """Token vectors, 0 for padding, shape (n, w, k + l)."""


class _Side(NamedTuple):
    """One text of each pair with what both directions need of it."""

    mask: NDArray[np.float32]
    """1 for a token, 0 for padding, shape (n, w, 1)."""
    vectors: NDArray[np.float32]
    context: NDArray[np.float32]
    """Contextual part of the vectors, at length 1."""
    lexical: NDArray[np.float32]
    """Lexical part, at length 1."""
    place: NDArray[np.float32]
    """Relative place of each token in its text, shape (n, w, 1)."""
    length: NDArray[np.float32]
    """Number of tokens, shape (n, 1)."""


class _Likeness(NamedTuple):
    """Likeness of the tokens of two texts, each of shape (n, w_a, w_b)."""

    context: NDArray[np.float32]
    lexical: NDArray[np.float32]
    equal: NDArray[np.float32]
    left: NDArray[np.float32]
    """1 where the tokens in front are equal."""
    right: NDArray[np.float32]
    """1 where the tokens behind are equal."""

    def transposed(self) -> _Likeness:
        return _Likeness(*(np.ascontiguousarray(part.transpose(0, 2, 1)) for part in self))


def pair_logits(
    weights: HeadWeights,
    a: Tokens,
    b: Tokens,
    cosines: NDArray[np.float32],
    cues: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return a number for each of n pairs, the larger the likelier they match.

    Texts that differ in nothing but case, spaces and punctuation are left to the cosine.

    Args:
        weights: of the head.
        a: the first texts.
        b: the second texts.
        cosines: of the text vectors, shape (n,).
        cues: from `pair_cues`, shape (n, 4).

    Returns:
        Shape (n,).
    """
    left, right = _side(weights, a), _side(weights, b)
    likeness = _likeness(left, right, a.ids, b.ids)
    tokens_a, unaligned_a = _read(weights, left, right, likeness)
    tokens_b, unaligned_b = _read(weights, right, left, likeness.transposed())
    lengths = np.log(left.length), np.log(right.length)
    features = np.concatenate(
        [
            tokens_a + tokens_b,
            np.abs(tokens_a - tokens_b),
            unaligned_a + unaligned_b,
            np.abs(unaligned_a - unaligned_b),
            cosines[:, None],
            np.abs(lengths[0] - lengths[1]),
            lengths[0] + lengths[1],
            cues,
        ],
        axis=1,
    )[:, None, :]
    same_form = cues[:, -1, None, None]
    hidden = np.where(same_form > 0, np.float32(0), _relu(features @ weights.decide_1.T + weights.decide_1_bias))
    logits: NDArray[np.float32] = (hidden @ weights.decide_2.T + weights.decide_2_bias)[:, 0, 0]
    logits += weights.cosine[0] * cosines
    return logits


def alignments(weights: HeadWeights, a: Tokens, b: Tokens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the share of each token of a that is aligned with each one of b, and the reverse.

    Args:
        weights: of the head.
        a: the first texts.
        b: the second texts.

    Returns:
        Shapes (n, w_a, w_b) and (n, w_b, w_a). The rest of a token's shares, up to 1, is aligned with none.
    """
    left, right = _side(weights, a), _side(weights, b)
    likeness = _likeness(left, right, a.ids, b.ids)
    return _align(weights, right, likeness)[0], _align(weights, left, likeness.transposed())[0]


def _side(weights: HeadWeights, tokens: Tokens) -> _Side:
    mask = (tokens.ids >= 0)[..., None].astype(np.float32)
    length = mask.sum(axis=1)
    place = np.arange(tokens.ids.shape[1], dtype=np.float32)[:, None] / length[:, None]
    k = int(weights.context)
    vectors = tokens.vectors
    return _Side(mask, vectors, _unit(vectors[..., :k]), _unit(vectors[..., k:]), place, length)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.sqrt(np.square(vectors).sum(axis=-1, keepdims=True))
    unit: NDArray[np.float32] = vectors / np.maximum(length, np.float32(1e-6))
    return unit


def _likeness(a: _Side, b: _Side, a_ids: NDArray[np.int64], b_ids: NDArray[np.int64]) -> _Likeness:
    equal = ((a_ids[:, :, None] == b_ids[:, None, :]) & (a_ids >= 0)[:, :, None]).astype(np.float32)
    left, right = np.zeros_like(equal), np.zeros_like(equal)
    left[:, 1:, 1:] = equal[:, :-1, :-1]
    right[:, :-1, :-1] = equal[:, 1:, 1:]
    return _Likeness(
        a.context @ b.context.transpose(0, 2, 1), a.lexical @ b.lexical.transpose(0, 2, 1), equal, left, right
    )


def _read(
    weights: HeadWeights, a: _Side, b: _Side, likeness: _Likeness
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compare each token of a with what it is aligned with in b.

    Returns:
        Mean and largest value of each neuron, shape (n, 2 h), and the share of a that is not aligned, shape (n, 1).
    """
    alignment, alone = _align(weights, b, likeness)
    aligned = alignment @ b.vectors
    together = 1 - alone
    place = (alignment @ b.place) / np.maximum(together, np.float32(1e-3))
    padding = np.float32(2) * (b.mask.transpose(0, 2, 1) - 1)  # below every cosine
    difference = a.vectors - aligned
    k = int(weights.context)
    features = np.concatenate(
        [
            np.abs(a.vectors * together - aligned),
            a.vectors * aligned,
            a.vectors,
            alone,
            np.abs(place - a.place) * together,
            (likeness.context + padding).max(axis=-1, keepdims=True),
            (likeness.lexical + padding).max(axis=-1, keepdims=True),
            likeness.equal.max(axis=-1, keepdims=True),
            (alignment * likeness.left).sum(axis=-1, keepdims=True),
            (alignment * likeness.right).sum(axis=-1, keepdims=True),
            _root_mean_square(difference[..., :k]),
            _root_mean_square(difference[..., k:]),
        ],
        axis=-1,
    )
    neurons = _relu(features @ weights.compare_1.T + weights.compare_1_bias)
    neurons = _relu(neurons @ weights.compare_2.T + weights.compare_2_bias) * a.mask
    importance = a.mask * _sigmoid(a.vectors @ weights.importance.T + weights.importance_bias)
    total = np.maximum(importance.sum(axis=1), np.float32(1e-3))
    mean = (importance * neurons).sum(axis=1) / total
    return np.concatenate([mean, neurons.max(axis=1)], axis=1), (importance * alone).sum(axis=1) / total


def _align(weights: HeadWeights, b: _Side, likeness: _Likeness) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    context, lexical, equal, neighbours = weights.sharpness
    strength = (
        context * likeness.context
        + lexical * likeness.lexical
        + equal * likeness.equal
        + neighbours * (likeness.left + likeness.right)
    )
    unaligned = weights.unaligned[0]
    largest = np.maximum(strength.max(axis=-1, keepdims=True), unaligned)
    shares = np.exp(strength - largest) * b.mask.transpose(0, 2, 1)
    alone = np.exp(unaligned - largest)
    total = shares.sum(axis=-1, keepdims=True) + alone
    return shares / total, alone / total


def _root_mean_square(values: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = np.sqrt(np.square(values).mean(axis=-1, keepdims=True))
    return mean


def _relu(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(values, np.float32(0))


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))), np.float32)
