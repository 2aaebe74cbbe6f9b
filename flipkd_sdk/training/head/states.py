"""Token states of the student, the pair head's input, reduced to fewer numbers for training.

The head reads the hidden states that A reads, not A·h: A was trained for what the teacher compares, and a teacher that
pools hardly sees a negation. With A·h contrast pairs were told apart far less well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from flipkd_sdk.pair_head.cues import pair_cues
from flipkd_sdk.training.head.model import TokenStates
from flipkd_sdk.training.tokens import tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.pair_head.cues import CueReader
    from flipkd_sdk.training.models.student import AnyStudent

    States = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
    """Token ids, hidden states at the encoder site, and the text vector of a text."""

_BATCH = 64
_SAMPLE = 20_000
"""Tokens that the principal directions are found on."""


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """The principal directions of some states, all on one scale: y = (x − mean) · directionsᵀ."""

    mean: NDArray[np.float32]
    """Shape (c,)."""
    directions: NDArray[np.float32]
    """Shape (k, c)."""

    def __call__(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reduce states of shape (…, c) to (…, k)."""
        return np.asarray((states - self.mean) @ self.directions.T, np.float32)


class StudentTokens:
    """Encodes texts with a student, token by token, and remembers them.

    Args:
        student: the trained student.
        tokenizer: the student's.
        sample: texts that the principal directions are found on.
        cues: reads the cues of texts.
        context: most numbers that a hidden state at the encoder site is reduced to.
        lexical: most numbers that a token embedding is reduced to.
        bf16: run the student in bfloat16; the head is trained with more noise than that adds.
    """

    def __init__(
        self,
        student: AnyStudent,
        tokenizer: PreTrainedTokenizerBase,
        sample: Sequence[str],
        cues: CueReader,
        *,
        context: int,
        lexical: int,
        bf16: bool = False,
    ) -> None:
        self._student, self._tokenizer = student.merged(), tokenizer
        self._bf16 = bf16
        self.cues = cues
        self._ids: dict[str, NDArray[np.int64]] = {}
        self._context: dict[str, NDArray[np.float32]] = {}
        self._vectors: dict[str, NDArray[np.float32]] = {}
        states = dict(self._encode(sample))
        self.context = _principal(np.concatenate([state for _, state, _ in states.values()]), context)
        self._remember(states)
        self.lexical = _principal(self._embed(np.concatenate(list(self._ids.values()))), lexical)

    def add(self, texts: Sequence[str]) -> None:
        """Encode further texts."""
        self._remember(dict(self._encode([text for text in dict.fromkeys(texts) if text not in self._ids])))

    def lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the number of tokens of each text."""
        return np.array([len(self._ids[text]) for text in texts], np.int64)

    def batch(self, a: Sequence[str], b: Sequence[str]) -> tuple[TokenStates, TokenStates, Tensor, Tensor]:
        """Return the input of a head for n pairs of texts that were added: both sides, cosines and cues."""
        cosines = np.array([self._vectors[one] @ self._vectors[other] for one, other in zip(a, b, strict=True)])
        cues = pair_cues([self.cues(text) for text in a], [self.cues(text) for text in b])
        return self._side(a), self._side(b), torch.from_numpy(cosines.astype(np.float32)), torch.from_numpy(cues)

    def _side(self, texts: Sequence[str]) -> TokenStates:
        width = int(self.lengths(texts).max())
        ids = np.full((len(texts), width), -1, np.int64)
        context = np.zeros((len(texts), width, len(self.context.directions)), np.float32)
        for row, text in enumerate(texts):
            count = len(self._ids[text])
            ids[row, :count], context[row, :count] = self._ids[text], self._context[text]
        lexical = np.zeros((*ids.shape, len(self.lexical.directions)), np.float32)
        lexical[ids >= 0] = self.lexical(self._embed(ids[ids >= 0]))
        return TokenStates(*map(torch.from_numpy, (ids, context, lexical)))

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> list[tuple[str, States]]:
        """Run the student on texts."""
        student, weight = self._student, self._student.encoder_weight
        tokens = tokenize(self._tokenizer, texts, student.options.max_length)
        order = np.argsort([len(ids) for ids in tokens.token_ids], kind="stable").tolist()
        found = []
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = {name: value.to(weight.device) for name, value in tokens.batch(rows).items()}
            with torch.autocast(weight.device.type, torch.bfloat16, enabled=self._bf16):
                hidden = student.hidden_states(batch["input_ids"], batch["attention_mask"]).float()
            vectors = student.vectors(hidden, batch["attention_mask"])
            states = hidden.cpu().numpy()
            for row, state, vector in zip(rows, states, vectors.float().cpu().numpy(), strict=True):
                ids = np.array(tokens.token_ids[row], np.int64)
                found.append((texts[row], (ids, state[: len(ids)].copy(), vector.copy())))
        return found

    def _remember(self, states: dict[str, States]) -> None:
        for text, (ids, state, vector) in states.items():
            self._ids[text], self._context[text], self._vectors[text] = ids, self.context(state), vector

    @torch.inference_mode()
    def _embed(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the token embeddings as the student's first block gets them, float32 (…, e)."""
        rows = torch.from_numpy(ids).to(self._student.encoder_weight.device)
        embedded: NDArray[np.float32] = self._student.embed(rows).float().cpu().numpy()
        return embedded


def _principal(states: NDArray[np.float32], count: int) -> Reduction:
    mean = states.mean(axis=0)
    centred = (states - mean)[:: -(-len(states) // _SAMPLE)]
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    kept = directions[: min(count, len(directions))]
    scale = float(np.mean(sizes[: len(kept)]) / np.sqrt(len(centred)))
    return Reduction(mean.astype(np.float32), (kept / max(scale, 1e-12)).astype(np.float32))
