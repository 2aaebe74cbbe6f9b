"""A's starting point: the best linear read-out of the untrained LLM, instead of noise.

B starts at zero, so at first the similarity losses teach A alone. For a fixed LLM that part of the problem is linear
and has a closed form; starting from it saves most of the alignment stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from flipkd_sdk.training.batches import TokenizedTexts, encode
from flipkd_sdk.training.readout import pool

if TYPE_CHECKING:
    from torch import Tensor

    from flipkd_sdk.training.batches import Corpus
    from flipkd_sdk.training.student import Student

_SAMPLE = 8192
_RIDGE = 1e-2


def initialize_encoder(student: Student, corpus: Corpus, *, seed: int) -> None:
    """Set A to the ridge regression of the teacher's vectors on the LLM's pooled states.

    A = argmin Σ_i |A·h_i − τ_i|² + ρ·|A|², with h_i the pooled input of the encoder site, τ_i the alignment target, and
    ρ a hundredth of the states' mean eigenvalue. At most 8,192 texts of the corpus are used.
    """
    count = len(corpus.tokens.token_ids)
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:_SAMPLE])
    tokens = TokenizedTexts([corpus.tokens.token_ids[i] for i in chosen], corpus.tokens.pad_token_id, 0)

    def pooled_states(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return pool(student.hidden_states(input_ids, attention_mask), attention_mask, student.options.pooling)

    student.eval()
    device = student.encoder_weight.device
    states = encode(tokens, pooled_states, progress="initializing A", device=device).astype(np.float64)
    gram = states.T @ states
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    solution = np.linalg.solve(gram + ridge, states.T @ corpus.target[torch.from_numpy(chosen)].numpy())
    with torch.no_grad():
        student.encoder_weight.copy_(torch.from_numpy(solution.T))
