"""Initial value of A: a linear read-out of the untrained LLM in closed form, instead of noise.

B starts at zero, so at first the similarity losses train A alone. For a fixed LLM that problem is linear and has a
closed form; starting from it saves most of the alignment stage.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from flipkd_sdk.training.distributed import broadcast_from_main
from flipkd_sdk.training.models.readout import pool
from flipkd_sdk.training.models.static import StaticStudent
from flipkd_sdk.training.tokens import TokenizedTexts, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from flipkd_sdk.training.data.corpus import Corpus
    from flipkd_sdk.training.models.student import AnyStudent

logger = logging.getLogger("flipkd_sdk")

_SAMPLE = 8192
_RIDGE = 1e-2


def initialize_encoder(student: AnyStudent, corpus: Corpus, *, seed: int) -> None:
    """Set A by ``student.initialization``, from at most 8,192 texts of the corpus and none of the copies.

    ``teacher`` is the ridge regression of the teacher's vectors on the LLM's pooled states. ``whitening`` is the
    principal directions of the states at equal length; it also replaces ``teacher``, with a warning, if there are no
    vectors. ``random`` keeps peft's initial value.
    """
    if isinstance(student, StaticStudent):
        student.open_rows(sorted({token for ids in corpus.tokens.token_ids for token in ids}))
    if student.options.initialization == "random":
        return
    solution = broadcast_from_main(lambda: _solution(student, corpus, seed))
    with torch.no_grad():
        student.encoder_weight.copy_(torch.from_numpy(solution))


def _solution(student: AnyStudent, corpus: Corpus, seed: int) -> NDArray[np.float64]:
    kind = student.options.initialization
    sample = np.sort(np.random.default_rng(seed).permutation(len(corpus.index))[:_SAMPLE])
    states = _pooled_states(student, corpus, sample)
    if kind == "teacher" and corpus.target is not None:
        return _regression(states, corpus.target[torch.from_numpy(sample)].numpy())
    if kind == "teacher":
        logger.warning("no teacher vectors to initialize A with: it starts at whitened principal directions of the LLM")
    return _whitening(states, student.encoder_weight.shape[0])


def _regression(states: NDArray[np.float64], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return A = argmin Σ_i |A·h_i − τ_i|² + ρ·|A|², with states h, targets τ and ρ = 1% of the mean eigenvalue."""
    gram = states.T @ states
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, states.T @ target).T


def _whitening(states: NDArray[np.float64], dimension: int) -> NDArray[np.float64]:
    """Return A = (Λ + ρ)^(−1/2)·Uᵀ/√r for the states' r leading principal directions.

    The result is isotropic. Without whitening the mean of all texts, which dominates pretrained states, would dominate
    every cosine. Rows beyond the number of directions are zero.

    Reference:
        Su et al., "Whitening sentence representations for better semantics and faster retrieval", 2021.
    """
    values, basis = np.linalg.eigh(states.T @ states / len(states))
    leading = np.argsort(-values)[:dimension]
    scale = 1 / np.sqrt(np.maximum(values[leading], 0) + _RIDGE * values.mean())
    whitened = scale[:, None] * basis[:, leading].T / np.sqrt(dimension)
    return np.pad(whitened, ((0, dimension - len(whitened)), (0, 0)))


def _pooled_states(student: AnyStudent, corpus: Corpus, sample: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the pooled input of the encoder site, float64 (n, in)."""
    tokens = TokenizedTexts([corpus.tokens.token_ids[i] for i in sample], corpus.tokens.pad_token_id, 0)

    def forward(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        static = isinstance(student, StaticStudent)
        # A static student's tokens have the weight 1 and no correction yet.
        hidden = student.embed(input_ids) if static else student.hidden_states(input_ids, attention_mask)
        return pool(hidden, attention_mask, student.options.pooling)

    student.eval()
    return encode(tokens, forward, progress="initializing A", device=student.encoder_weight.device).astype(np.float64)
