"""The encoder path: merged LLM up to the encoder site → A → pool → normalize, as one plain module.

Merging folds every adapter below the site into the weights it adapts, and discards A; so A is copied first. A capture
hook at the site keeps this independent of the model family: everything above the site is dead code that the graph
export drops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from flipkd_sdk.errors import VerificationError
from flipkd_sdk.training.models.blocks import find_site
from flipkd_sdk.training.models.readout import site_input, text_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel

    from flipkd_sdk.training.config.schema import StudentConfig
    from flipkd_sdk.training.head.files import TokenMaps
    from flipkd_sdk.training.models.student import Student


class EncoderPath(nn.Module):
    """The encoder path of a student as a torch module.

    Args:
        model: the merged LLM, cut after the encoder site's block.
        encoder_weight: A of the encoder site, shape (r, in).
        options: site, pooling and attention.
        token_maps: of the pair head; None for a path without token vectors.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        encoder_weight: Tensor,
        options: StudentConfig,
        token_maps: TokenMaps | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.encoder_weight = nn.Parameter(encoder_weight, requires_grad=False)
        self.options = options
        self.token_maps = None if token_maps is None else _TokenVectors(token_maps)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map token ids and mask, int64 (batch, seq), to unit vectors, float32 (batch, r).

        With token maps also return token vectors, float32 (batch, seq, k).
        """
        if self.token_maps is None:
            return self.encode(input_ids, attention_mask)
        embedded: list[Tensor] = []
        # Captured, because a second lookup would put the embedding into the graph twice.
        handle = self.model.get_input_embeddings().register_forward_hook(lambda *call: embedded.append(call[2]))
        try:
            hidden = self._hidden(input_ids, attention_mask)
        finally:
            handle.remove()
        return self._vectors(hidden, attention_mask), self.token_maps(hidden, embedded[0])

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the unit vectors alone."""
        return self._vectors(self._hidden(input_ids, attention_mask), attention_mask)

    def _vectors(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        return text_vectors(hidden, self.encoder_weight, attention_mask, pooling=self.options.pooling)

    def _hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return site_input(
            self.model.base_model,
            find_site(self.model, self.options),
            input_ids,
            attention_mask,
            attention=self.options.attention,
            stop=False,
        )


class _TokenVectors(nn.Module):
    """The pair head's token vectors, as products of two dimensions, which quantization leaves alone."""

    def __init__(self, maps: TokenMaps) -> None:
        super().__init__()
        self.context = _linear(maps.context_weight, maps.context_bias)
        self.lexical = _linear(maps.lexical_weight, maps.lexical_bias)

    def forward(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        context = self.context(hidden.flatten(0, 1).float())
        lexical = self.lexical(embedded.flatten(0, 1).float())
        return torch.cat([context, lexical], dim=-1).reshape(*hidden.shape[:2], -1)


def _linear(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0]).requires_grad_(requires_grad=False)
    layer.weight.copy_(torch.from_numpy(weight))
    layer.bias.copy_(torch.from_numpy(bias))
    return layer


def extract(student: Student, token_maps: TokenMaps | None = None) -> EncoderPath:
    """Merge the adapters of a student in float32 and return its encoder path; the student is consumed.

    Args:
        student: the trained student.
        token_maps: of its pair head, if it has one.

    Raises:
        VerificationError: a weight is NaN or infinite.
    """
    encoder_weight = student.encoder_weight.detach().clone()
    merged = student.model.merge_and_unload()
    _replace_conv1d(merged)
    path = EncoderPath(merged, encoder_weight, student.options, token_maps).eval()
    for name, weight in path.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise VerificationError(f"weight {name} holds NaN or infinite values; the run cannot be exported")
    return path


def _replace_conv1d(model: nn.Module) -> None:
    """Replace GPT-2's ``Conv1D`` layers by equal linear layers.

    ``Conv1D`` flattens its input first, so quantization would have to handle linear layers in two shapes.
    """
    for path, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            linear = nn.Linear(module.nx, module.nf)
            linear.weight = nn.Parameter(module.weight.T.contiguous(), requires_grad=False)
            linear.bias = module.bias
            model.set_submodule(path, linear)
