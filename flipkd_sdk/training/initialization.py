"""A's starting point: the best linear read-out of the untrained LLM that is known, instead of noise.

B starts at zero, so at first the similarity losses teach A alone. For a fixed LLM that part of the problem is linear
and has a closed form; starting from it saves most of the alignment stage.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from flipkd_sdk.training.data.tokens import TokenizedTexts, encode
from flipkd_sdk.training.distributed import from_main
from flipkd_sdk.training.models.readout import pool

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from flipkd_sdk.training.data.datasets import Corpus
    from flipkd_sdk.training.models.student import Student

logger = logging.getLogger("flipkd_sdk")

_SAMPLE = 8192
_RIDGE = 1e-2


def initialize_encoder(student: Student, corpus: Corpus, *, seed: int) -> None:
    """Set A as ``student.initialization`` says, from at most 8,192 texts of the corpus, and none of the copies.

    ``teacher``: the ridge regression of the teacher's vectors on the LLM's pooled states. ``whitening``, also where the
    teacher has no vectors, which is logged: the states' principal directions at equal length. ``random``: as peft left
    it.
    """
    if student.options.initialization == "random":
        return
    solution = from_main(lambda: _solution(student, corpus, seed))
    with torch.no_grad():
        student.encoder_weight.copy_(torch.from_numpy(solution))


def _solution(student: Student, corpus: Corpus, seed: int) -> NDArray[np.float64]:
    kind = student.options.initialization
    chosen = np.sort(np.random.default_rng(seed).permutation(len(corpus.position))[:_SAMPLE])
    states = _pooled_states(student, corpus, chosen)
    if kind == "teacher" and corpus.target is not None:
        return _regression(states, corpus.target[torch.from_numpy(chosen)].numpy())
    if kind == "teacher":
        logger.warning("no teacher vectors to start A from: it starts at whitened principal directions of the LLM")
    return _whitening(states, student.encoder_weight.shape[0])


def _regression(states: NDArray[np.float64], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """A = argmin Σ_i |A·h_i − τ_i|² + ρ·|A|², with states h, targets τ, and ρ a hundredth of the mean eigenvalue."""
    gram = states.T @ states
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, states.T @ target).T


def _whitening(states: NDArray[np.float64], dimension: int) -> NDArray[np.float64]:
    """A = (Λ + ρ)^(−1/2)·Uᵀ/√r of the states' r leading principal directions: isotropic, as cosines want it.

    Without it the mean of all texts, which pretrained states are full of, would decide every cosine. Rows beyond the
    number of directions are zero.

    Reference:
        Su et al., "Whitening sentence representations for better semantics and faster retrieval", 2021.
    """
    values, basis = np.linalg.eigh(states.T @ states / len(states))
    leading = np.argsort(-values)[:dimension]
    scale = 1 / np.sqrt(np.maximum(values[leading], 0) + _RIDGE * values.mean())
    found = scale[:, None] * basis[:, leading].T / np.sqrt(dimension)
    return np.pad(found, ((0, dimension - len(found)), (0, 0)))


def _pooled_states(student: Student, corpus: Corpus, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
    """Pooled input of the encoder site, float64 (n, in)."""
    tokens = TokenizedTexts([corpus.tokens.token_ids[i] for i in chosen], corpus.tokens.pad_token_id, 0)

    def forward(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return pool(student.hidden_states(input_ids, attention_mask), attention_mask, student.options.pooling)

    student.eval()
    return encode(tokens, forward, progress="initializing A", device=student.encoder_weight.device).astype(np.float64)
