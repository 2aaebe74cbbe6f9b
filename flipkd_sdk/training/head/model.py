"""The pair head as a torch module; `flipkd_sdk.pair_head.scoring` computes the same in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from flipkd_sdk.pair_head.cues import CUES, weight_of_head
from flipkd_sdk.pair_head.weights import MATCH_FEATURES, PAIR_FEATURES, HeadWeights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from flipkd_sdk.pair_head.cues import CueReader

_DROPOUT = 0.1
_UNSEEN = 0.25
"""Share of the pairs that are decided by the cues alone in training. Tokens explain nearly all contrast pairs, so that
the cues, which hold for unknown words too, would hardly be learned."""
_NOISE = 0.08
"""Noise on the tokens in training, relative to their size: about what int4 variants add."""


class TokenStates(NamedTuple):
    """One text of each of n pairs, padded to w tokens."""

    ids: Tensor
    """Token ids, −1 for padding, int64 (n, w)."""
    context: Tensor
    """Contextual states, 0 for padding, (n, w, c)."""
    lexical: Tensor
    """Token embeddings, 0 for padding, (n, w, e)."""


class PairHead(nn.Module):
    """The head, with the two maps that make token vectors of token states.

    Args:
        context: first weight and bias of the map from contextual states, (k, c) and (k,).
        lexical: those of the map from token embeddings, (l, e) and (l,).
        neurons: that read each token.
        decisive: neurons that read a pair.
        cosine: slope and intercept of the cosine's own calibration.
    """

    def __init__(
        self,
        context: tuple[Tensor, Tensor],
        lexical: tuple[Tensor, Tensor],
        *,
        neurons: int,
        decisive: int,
        cosine: tuple[float, float],
    ) -> None:
        super().__init__()
        self.context, self.lexical = _linear(*context), _linear(*lexical)
        dimension = len(context[0]) + len(lexical[0])
        self.sharpness = nn.Parameter(torch.tensor([4.0, 4.0, 2.0, 0.5]))
        self.unaligned = nn.Parameter(torch.tensor([2.0]))
        self.compare_1 = nn.Linear(3 * dimension + MATCH_FEATURES, neurons)
        self.compare_2 = nn.Linear(neurons, neurons)
        self.importance = nn.Linear(dimension, 1)
        self.decide_1 = nn.Linear(4 * neurons + PAIR_FEATURES + CUES, decisive)
        self.decide_2 = nn.Linear(decisive, 1)
        # The head starts as the cosine's calibration, and learns where that is wrong.
        slope, intercept = cosine
        self.register_buffer("cosine", torch.tensor([slope]))
        self.register_buffer("intercept", torch.tensor([intercept]))
        nn.init.zeros_(self.decide_2.weight)
        nn.init.zeros_(self.decide_2.bias)

    cosine: Tensor
    intercept: Tensor

    def forward(self, a: TokenStates, b: TokenStates, cosines: Tensor, cues: Tensor) -> Tensor:
        """Return the logit of each pair, shape (n,)."""
        return self.correction(a, b, cosines, cues) + self.cosine * cosines + self.intercept

    def correction(self, a: TokenStates, b: TokenStates, cosines: Tensor, cues: Tensor) -> Tensor:
        """Return what the head adds to the cosine's own logit, shape (n,)."""
        equal = (a.ids[:, :, None] == b.ids[:, None, :]) & (a.ids >= 0)[:, :, None]
        u, v = self._vectors(a), self._vectors(b)
        mask_a, mask_b = (a.ids >= 0).float(), (b.ids >= 0).float()
        tokens_a, unaligned_a = self._read(u, v, mask_a, mask_b, equal.float())
        tokens_b, unaligned_b = self._read(v, u, mask_b, mask_a, equal.float().transpose(1, 2))
        lengths = [mask.sum(dim=1, keepdim=True).log() for mask in (mask_a, mask_b)]
        compared = [
            tokens_a + tokens_b,
            (tokens_a - tokens_b).abs(),
            unaligned_a + unaligned_b,
            (unaligned_a - unaligned_b).abs(),
        ]
        if self.training:
            seen = (torch.rand(len(cosines), 1, device=cosines.device) >= _UNSEEN).float()
            compared = [part * seen for part in compared]
        features = torch.cat(
            [
                *compared,
                cosines[:, None],
                (lengths[0] - lengths[1]).abs(),
                lengths[0] + lengths[1],
                cues,
            ],
            dim=1,
        )
        counts = torch.from_numpy(weight_of_head(cues.cpu().numpy())).to(cues.device)
        hidden = functional.relu(self.decide_1(self._drop(features))) * counts[:, None]
        correction: Tensor = self.decide_2(hidden)[:, 0]
        return correction

    def weights(self, cues: CueReader) -> HeadWeights:
        """Return what scores token vectors: all but the maps that make them, and the words that the cues need."""

        def array(value: Tensor) -> NDArray[np.float32]:
            return value.detach().float().cpu().numpy().copy()

        arrays = {
            "sharpness": array(self.sharpness),
            "unaligned": array(self.unaligned),
            "cosine": array(self.cosine),
        }
        for name in ("compare_1", "compare_2", "importance", "decide_1", "decide_2"):
            layer = self.get_submodule(name)
            arrays[name], arrays[f"{name}_bias"] = array(layer.weight), array(layer.bias)  # type: ignore[arg-type]
        arrays["decide_2_bias"] += array(self.intercept)
        return HeadWeights(
            **arrays,
            context=np.array(len(self.context.bias), dtype=np.int64),
            negators=np.array(cues.negators, dtype=np.str_),
            number_words=np.array(list(cues.numbers), dtype=np.str_),
            number_values=np.array(list(cues.numbers.values()), dtype=np.float64),
        )

    def _vectors(self, states: TokenStates) -> tuple[Tensor, Tensor]:
        context, lexical = states.context, states.lexical
        if self.training:
            context = context + _NOISE * torch.randn_like(context) * context.square().mean(-1, keepdim=True).sqrt()
        real = (states.ids >= 0)[..., None].float()
        return self.context(context) * real, self.lexical(lexical) * real

    def _read(
        self, u: tuple[Tensor, Tensor], v: tuple[Tensor, Tensor], mask_u: Tensor, mask_v: Tensor, equal: Tensor
    ) -> tuple[Tensor, Tensor]:
        context, lexical = (
            functional.normalize(one, dim=-1, eps=1e-6) @ functional.normalize(other, dim=-1, eps=1e-6).transpose(1, 2)
            for one, other in zip(u, v, strict=True)
        )
        left = functional.pad(equal[:, :-1, :-1], (1, 0, 1, 0))
        right = functional.pad(equal[:, 1:, 1:], (0, 1, 0, 1))
        parts = (context, lexical, equal, left + right)
        strength = torch.stack([weight * part for weight, part in zip(self.sharpness, parts, strict=True)]).sum(dim=0)
        strength = strength.masked_fill(mask_v[:, None] == 0, -1e9)
        none = self.unaligned.expand(*strength.shape[:2], 1)
        shares = torch.softmax(torch.cat([strength, none], dim=-1), dim=-1)
        alignment, alone = shares[..., :-1], shares[..., -1:]
        together = 1 - alone
        indices = [
            torch.arange(mask.shape[1], device=mask.device) / mask.sum(1, keepdim=True) for mask in (mask_u, mask_v)
        ]
        index = (alignment @ indices[1][..., None]) / together.clamp(min=1e-3)
        padding = 2 * (mask_v[:, None] - 1)
        own, other = torch.cat(u, dim=-1), alignment @ torch.cat(v, dim=-1)
        k = u[0].shape[-1]
        features = [
            (own * together - other).abs(),
            own * other,
            own,
            alone,
            (index - indices[0][..., None]).abs() * together,
            (context + padding).amax(dim=-1, keepdim=True),
            (lexical + padding).amax(dim=-1, keepdim=True),
            equal.amax(dim=-1, keepdim=True),
            (alignment * left).sum(dim=-1, keepdim=True),
            (alignment * right).sum(dim=-1, keepdim=True),
            _root_mean_square(own[..., :k] - other[..., :k]),
            _root_mean_square(own[..., k:] - other[..., k:]),
        ]
        neurons = functional.relu(self.compare_1(self._drop(torch.cat(features, dim=-1))))
        neurons = functional.relu(self.compare_2(neurons)) * mask_u[..., None]
        importance = torch.sigmoid(self.importance(own)) * mask_u[..., None]
        total = importance.sum(dim=1).clamp(min=1e-3)
        mean = (importance * neurons).sum(dim=1) / total
        return torch.cat([mean, neurons.amax(dim=1)], dim=1), (importance * alone).sum(dim=1) / total

    def _drop(self, features: Tensor) -> Tensor:
        return functional.dropout(features, _DROPOUT, training=self.training)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _root_mean_square(values: Tensor) -> Tensor:
    # A square root has no slope at 0, which equal tokens reach.
    return (values.square().mean(dim=-1, keepdim=True) + 1e-12).sqrt()
