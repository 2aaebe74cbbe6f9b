"""Pruning of MLP neurons that the domain's texts need least.

The MLPs contain two thirds of a block's weights. Neurons are removed one by one, each time the one that costs least,
and the output weights of the others are refitted.

Reference: saliency and update of Kurtić et al., "ZipLM: inference-aware structured pruning of language models", NeurIPS
2023 (arXiv 2302.04089), applied to single neurons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from tqdm import tqdm

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.training.models.blocks import find_blocks
from flipkd_sdk.training.models.readout import site_input

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flipkd_sdk.training.config.schema import StudentConfig
    from flipkd_sdk.training.tokens import TokenizedTexts

_GATED = ("gate_proj", "up_proj", "down_proj")
_BATCH = 32
_DAMPING = 1e-3
"""Share of the mean eigenvalue that is added to the Gram matrix, which may be singular."""
_LOUDEST = 4.0
"""Largest norm of a token's state as a multiple of the median. The first token of most LLMs is far above it."""


def check_width(model: PreTrainedModel, config: StudentConfig) -> None:
    """Raise unless the MLPs can be pruned to ``student.mlp_width`` neurons.

    Raises:
        ConfigError: they have no gate, or not more neurons than that.
    """
    if config.mlp_width is None:
        return
    for block in find_blocks(model)[1]:
        neurons = cast("int", _mlp(block).get_submodule("down_proj").in_features)
        if config.mlp_width >= neurons:
            raise ConfigError(
                f"student.mlp_width = {config.mlp_width}: the MLPs have {neurons} neurons; name fewer, or none"
            )


@torch.no_grad()
def narrow(model: PreTrainedModel, tokens: TokenizedTexts, config: StudentConfig) -> None:
    """Prune each block's MLP to ``student.mlp_width`` neurons, in place.

    Blocks are pruned from the first to the last, so that each is fitted to the states that the pruned ones before it
    produce. The site's own MLP is never run and only cut to size.

    Args:
        model: the LLM, cut after the encoder site's block.
        tokens: a sample of the domain's texts.
        config: the student's options.

    Raises:
        ConfigError: see `check_width`.
    """
    check_width(model, config)
    if (width := config.mlp_width) is None:
        return
    _, blocks = find_blocks(model)
    for block in tqdm(blocks[: config.layer], desc="narrowing", unit="block", disable=None, leave=False):
        mlp = _mlp(block)
        down = cast("nn.Linear", mlp.down_proj)
        gram = _input_gram(model, down, tokens, config)
        kept, weight = prune_neurons(down.weight, gram, width)
        _cut(mlp, kept, weight)
    site = _mlp(blocks[config.layer])
    _cut(site, torch.arange(width), cast("nn.Linear", site.down_proj).weight[:, :width])
    model.config.intermediate_size = width


def prune_neurons(weight: Tensor, gram: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Choose inputs of a linear layer and refit the weights to them.

    Removing input j costs |w_j|²/(H⁻¹)_jj in squared error of the outputs, with H = Σ x·xᵀ and the other weights
    refitted, W ← W − w_j·(H⁻¹)_j/(H⁻¹)_jj. The cheapest input is removed until ``width`` are left.

    Args:
        weight: W of y = W·x, shape (out, in).
        gram: Σ x·xᵀ over a sample of inputs, shape (in, in).
        width: number of inputs to keep.

    Returns:
        The kept inputs, ascending, int64 (width,), and their weights (out, width), of the dtype of ``weight``.
    """
    left, hessian = weight.double().clone(), gram.double()
    damping = _DAMPING * hessian.diagonal().mean().clamp(min=1e-12)
    inverse = torch.linalg.inv(hessian + damping * torch.eye(len(hessian), dtype=torch.float64))
    present = torch.ones(len(inverse), dtype=torch.bool)
    for _ in range(len(inverse) - width):
        costs = torch.where(present, left.square().sum(dim=0) / inverse.diagonal(), torch.inf)
        leaving = int(costs.argmin())
        share = inverse[leaving] / inverse[leaving, leaving]
        left.addr_(left[:, leaving].clone(), share, alpha=-1)
        inverse.addr_(inverse[:, leaving].clone(), share, alpha=-1)
        present[leaving] = False
    kept = present.nonzero().squeeze(1)
    return kept, left[:, kept].to(weight.dtype)


def _mlp(block: nn.Module) -> nn.Module:
    found = [module for module in block.modules() if all(hasattr(module, name) for name in _GATED)]
    if len(found) != 1:
        raise ConfigError(f"student.mlp_width: the blocks of this LLM have no MLP of {', '.join(_GATED)}; leave it out")
    return found[0]


def _input_gram(model: PreTrainedModel, layer: nn.Module, tokens: TokenizedTexts, config: StudentConfig) -> Tensor:
    """Return Σ x·xᵀ of a layer's inputs over all tokens, float64."""
    order = sorted(range(len(tokens.token_ids)), key=lambda i: len(tokens.token_ids[i]))
    gram: Tensor | None = None
    for start in range(0, len(order), _BATCH):
        batch = tokens.batch(order[start : start + _BATCH])
        ids, mask = batch["input_ids"], batch["attention_mask"]
        read = site_input(model.base_model, layer, ids, mask, attention=config.attention, stop=True)[mask.bool()]
        norms = read.norm(dim=1, keepdim=True)
        read = read / (norms / (_LOUDEST * norms.median())).clamp(min=1.0)
        part = (read.T @ read).double()
        gram = part if gram is None else gram.add_(part)
    if gram is None:
        raise ConfigError("student.mlp_width needs texts to choose the neurons by")
    return gram


def _cut(mlp: nn.Module, kept: Tensor, down_weight: Tensor) -> None:
    for name in ("gate_proj", "up_proj"):
        layer = cast("nn.Linear", getattr(mlp, name))
        layer.weight = _frozen(layer.weight[kept])
        if layer.bias is not None:
            layer.bias = _frozen(layer.bias[kept])
        layer.out_features = len(kept)
    down = cast("nn.Linear", mlp.down_proj)
    down.weight = _frozen(down_weight)
    down.in_features = len(kept)


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.clone(), requires_grad=False)
