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
    from torch import Tensor
    from transformers import PreTrainedModel

    from flipkd_sdk.training.config.schema import StudentConfig
    from flipkd_sdk.training.models.student import Student


class EncoderPath(nn.Module):
    """The encoder path of a student as a torch module.

    Args:
        model: the merged LLM, cut after the encoder site's block.
        encoder_weight: A of the encoder site, shape (r, in).
        options: site, pooling and attention.
    """

    def __init__(self, model: PreTrainedModel, encoder_weight: Tensor, options: StudentConfig) -> None:
        super().__init__()
        self.model = model
        self.encoder_weight = nn.Parameter(encoder_weight, requires_grad=False)
        self.options = options

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map token ids and mask, int64 (batch, seq), to unit vectors, float32 (batch, r)."""
        hidden = site_input(
            self.model.base_model,
            find_site(self.model, self.options),
            input_ids,
            attention_mask,
            attention=self.options.attention,
            stop=False,
        )
        return text_vectors(hidden, self.encoder_weight, attention_mask, pooling=self.options.pooling)


def extract(student: Student) -> EncoderPath:
    """Merge the adapters of a student in float32 and return its encoder path; the student is consumed.

    Raises:
        VerificationError: a weight is NaN or infinite.
    """
    encoder_weight = student.encoder_weight.detach().clone()
    merged = student.model.merge_and_unload()
    _replace_conv1d(merged)
    path = EncoderPath(merged, encoder_weight, student.options).eval()
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
