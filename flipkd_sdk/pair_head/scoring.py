"""The pair head in numpy.

Each token of a text is softly aligned with the tokens of the other text, or with none, and compared with what it is
aligned with (after Parikh et al., "A Decomposable Attention Model for Natural Language Inference", EMNLP 2016). Both
directions are computed alike, in one batch, and added up, so that the order of the texts does not matter. A pair's
number does not depend on its batch either: every matrix product is one of a single pair, and its shape follows from the
pair alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flipkd_sdk.pair_head.cues import weight_of_head
from flipkd_sdk.pair_head.weights import MATCH_FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flipkd_sdk.pair_head.weights import HeadWeights


class Tokens(NamedTuple):
    """Texts of n pairs, the first ones and then the second ones, all padded to w tokens."""

    ids: NDArray[np.int64]
    """Token ids, −1 for padding, shape (2 n, w)."""
    vectors: NDArray[np.float32]
    """Token vectors, 0 for padding, shape (2 n, w, k + l)."""
    directions: NDArray[np.float32]
    """Token vectors whose contextual and lexical parts have length 1, from `directions`; 0 for padding."""


class _Likeness(NamedTuple):
    """Likeness of each token to those of the other text of the pair, each of shape (2 n, w, w)."""

    context: NDArray[np.float32]
    lexical: NDArray[np.float32]
    equal: NDArray[np.float32]
    left: NDArray[np.float32]
    """1 where the tokens in front are equal."""
    right: NDArray[np.float32]
    """1 where the tokens behind are equal."""


def directions(weights: HeadWeights, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return token vectors, of shape (…, k + l), with their contextual and their lexical part at length 1."""
    k = int(weights.context)
    unit = np.empty_like(vectors)
    for part in (slice(None, k), slice(k, None)):
        own = vectors[..., part]
        length = np.sqrt(np.square(own).sum(axis=-1, keepdims=True))
        np.divide(own, np.maximum(length, np.float32(1e-6)), out=unit[..., part])
    return unit


def pair_logits(
    weights: HeadWeights, tokens: Tokens, cosines: NDArray[np.float32], cues: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return a number for each of n pairs, the larger the likelier they match.

    Pairs for which `weight_of_head` is 0 are left to the cosine.

    Args:
        weights: of the head.
        tokens: of the texts.
        cosines: of the text vectors, shape (n,).
        cues: from `pair_cues`, shape (n, 11).

    Returns:
        Shape (n,).
    """
    n, cues = len(cosines), cues[:, : weights.cues]
    mask = (tokens.ids >= 0).astype(np.float32)
    lengths = mask.sum(axis=1, keepdims=True)
    neurons, unaligned = _read(weights, tokens, mask, np.arange(mask.shape[1], dtype=np.float32) / lengths)
    logs = np.log(lengths)
    features = np.concatenate(
        [
            neurons[:n] + neurons[n:],
            np.abs(neurons[:n] - neurons[n:]),
            unaligned[:n] + unaligned[n:],
            np.abs(unaligned[:n] - unaligned[n:]),
            cosines[:, None],
            np.abs(logs[:n] - logs[n:]),
            logs[:n] + logs[n:],
            cues,
        ],
        axis=1,
    )[:, None, :]
    hidden = _neurons(features, weights.decide_1, weights.decide_1_bias)
    hidden *= weight_of_head(cues)[:, None, None]
    logits: NDArray[np.float32] = (hidden @ weights.decide_2.T + weights.decide_2_bias)[:, 0, 0]
    logits += weights.cosine[0] * cosines
    return logits


def cosine_logits(weights: HeadWeights, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the numbers of pairs that are left to the cosine, shape (n,)."""
    logits: NDArray[np.float32] = cosines * weights.cosine[0] + weights.decide_2_bias[0]
    return logits


def alignments(weights: HeadWeights, tokens: Tokens) -> NDArray[np.float32]:
    """Return the share of each token of each text that is aligned with each token of the other text of the pair.

    Returns:
        Shape (2 n, w, w). The rest of a token's shares, up to 1, is aligned with none.
    """
    other_mask = _swapped((tokens.ids >= 0).astype(np.float32))[:, None, :]
    return _align(weights, _likeness(weights, tokens, other_mask), other_mask)[0]


def _read(
    weights: HeadWeights, tokens: Tokens, mask: NDArray[np.float32], index: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compare each token of each text with what it is aligned with in the other text of the pair.

    Args:
        weights: of the head.
        tokens: of the texts.
        mask: 1 for a token, 0 for padding, shape (2 n, w).
        index: relative index of each token in its text, shape (2 n, w).

    Returns:
        Mean and largest value of each neuron, shape (2 n, 2 h), and the share that is not aligned, shape (2 n, 1).
    """
    k, d = int(weights.context), weights.dimension
    own, other, other_mask = tokens.vectors, _swapped(tokens.vectors), _swapped(mask)[:, None, :]
    likeness = _likeness(weights, tokens, other_mask)
    context, lexical, equal, left, right = likeness
    alignment, alone = _align(weights, likeness, other_mask)

    together = 1 - alone
    aligned = alignment @ other
    aligned_index = (alignment @ _swapped(index)[..., None]) / np.maximum(together, np.float32(1e-3))
    padding = np.float32(2) * (other_mask - 1)  # below every cosine
    features = np.empty((*own.shape[:2], 3 * d + MATCH_FEATURES), dtype=np.float32)
    difference = features[..., :d]
    np.square(own - aligned, out=difference)
    features[..., -2:-1] = np.sqrt(difference[..., :k].mean(axis=-1, keepdims=True))
    features[..., -1:] = np.sqrt(difference[..., k:].mean(axis=-1, keepdims=True))
    np.multiply(own, together, out=difference)
    difference -= aligned
    np.abs(difference, out=difference)
    np.multiply(own, aligned, out=features[..., d : 2 * d])
    features[..., 2 * d : 3 * d] = own
    features[..., 3 * d : 3 * d + 1] = alone
    features[..., 3 * d + 1 : 3 * d + 2] = np.abs(aligned_index - index[..., None]) * together
    (context + padding).max(axis=-1, out=features[..., 3 * d + 2])
    (lexical + padding).max(axis=-1, out=features[..., 3 * d + 3])
    equal.max(axis=-1, out=features[..., 3 * d + 4])
    (alignment * left).sum(axis=-1, out=features[..., 3 * d + 5])
    (alignment * right).sum(axis=-1, out=features[..., 3 * d + 6])

    neurons = _neurons(features, weights.compare_1, weights.compare_1_bias)
    neurons = _neurons(neurons, weights.compare_2, weights.compare_2_bias)
    neurons *= mask[..., None]
    importance = mask[..., None] * _sigmoid(own @ weights.importance.T + weights.importance_bias)
    total = np.maximum(importance.sum(axis=1), np.float32(1e-3))
    mean = (importance * neurons).sum(axis=1) / total
    return np.concatenate([mean, neurons.max(axis=1)], axis=1), (importance * alone).sum(axis=1) / total


def _likeness(weights: HeadWeights, tokens: Tokens, other_mask: NDArray[np.float32]) -> _Likeness:
    k = int(weights.context)
    unit, other_unit = tokens.directions, _swapped(tokens.directions).transpose(0, 2, 1)
    equal = (tokens.ids[:, :, None] == _swapped(tokens.ids)[:, None, :]).astype(np.float32)
    equal *= other_mask
    left, right = np.zeros_like(equal), np.zeros_like(equal)
    left[:, 1:, 1:] = equal[:, :-1, :-1]
    right[:, :-1, :-1] = equal[:, 1:, 1:]
    return _Likeness(unit[..., :k] @ other_unit[:, :k], unit[..., k:] @ other_unit[:, k:], equal, left, right)


def _align(
    weights: HeadWeights, likeness: _Likeness, other_mask: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the shares of the other text's tokens in each token's alignment, and that of none."""
    context, lexical, equal, neighbours = weights.sharpness
    strength = context * likeness.context
    strength += lexical * likeness.lexical
    strength += equal * likeness.equal
    strength += neighbours * (likeness.left + likeness.right)
    unaligned = weights.unaligned[0]
    largest = np.maximum(strength.max(axis=-1, keepdims=True), unaligned)
    strength -= largest
    shares = np.exp(strength, out=strength)
    shares *= other_mask
    alone = np.exp(unaligned - largest)
    total = shares.sum(axis=-1, keepdims=True) + alone
    shares /= total
    return shares, alone / total


def _swapped(values: NDArray[Any]) -> NDArray[Any]:
    """Return the rows of the other texts: the second half, then the first one."""
    half = len(values) // 2
    return np.concatenate([values[half:], values[:half]])


def _neurons(
    values: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float32]:
    neurons: NDArray[np.float32] = values @ weight.T
    neurons += bias
    return np.maximum(neurons, np.float32(0), out=neurons)


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))), np.float32)
