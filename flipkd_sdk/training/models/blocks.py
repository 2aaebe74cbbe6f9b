"""The decoder blocks of an LLM, whatever its family calls them, and the encoder site in one of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from flipkd_sdk.errors import ConfigError, ModelSourceError
from flipkd_sdk.training.models.pretrained import loading, read_text_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from flipkd_sdk.training.config.schema import StudentConfig

LLM = "a decoder-only LLM"
"""The kind of model that error messages name."""


def find_site(model: nn.Module, config: StudentConfig) -> nn.Module:
    """Return the linear layer that the options name, plain or adapted.

    Raises:
        ConfigError: the block has no such layer, or several; the message lists those it has.
    """
    return model.get_submodule(site_name(model, config))


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the list of decoder blocks and its path.

    Raises:
        ModelSourceError: there is no list of ``num_hidden_layers`` blocks.
    """
    depth = model.config.num_hidden_layers  # type: ignore[union-attr]
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and linear_names(module):
            return path, module
    raise ModelSourceError(f"{type(model).__name__}: no list of {depth} decoder blocks with linear layers inside")


def linear_names(module: nn.Module) -> list[str]:
    """Return the paths of the linear layers inside a module, adapted ones and GPT-2's ``Conv1D`` included."""
    plain = (nn.Linear, Conv1D)
    return [
        path
        for path, child in module.named_modules()
        if (isinstance(child, plain) or hasattr(child, "base_layer")) and not re.search(r"(base_layer|lora_\w+)", path)
    ]


def site_name(model: nn.Module, config: StudentConfig) -> str:
    """Return the path of the encoder site.

    Raises:
        ConfigError: see `find_site`.
    """
    prefix, blocks = find_blocks(model)
    names = _matching(blocks[config.layer], config.module)
    if len(names) != 1:
        raise ConfigError(
            f"student.module = {config.module!r}: {'several' if names else 'none'} of the linear layers of block "
            f"{config.layer}, which are {', '.join(linear_names(blocks[config.layer]))}"
        )
    return f"{prefix}.{config.layer}.{names[0]}"


def _matching(block: nn.Module, module: str) -> list[str]:
    """Return the paths of the block's linear layers that end in a name."""
    return [path for path in linear_names(block) if f".{path}".endswith(f".{module}")]


def cut_blocks(config: PreTrainedConfig, depth: int) -> None:
    """Cut a configuration after a number of blocks, in place."""
    blocks = config.num_hidden_layers
    # The last blocks of some families (Gemma 3n, Gemma 4) share their keys and values; the first one of them stays it.
    if shared := getattr(config, "num_kv_shared_layers", None):
        config.num_kv_shared_layers = max(0, depth - (blocks - shared))
    config.num_hidden_layers = depth
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = kinds[:depth]


def refuse_short_window(location: str, config: StudentConfig) -> None:
    """Raise if a block below the site looks at fewer tokens than a text may have.

    The mask of `attention_bias` lets each token look at all others, which is exact only for texts within the window.
    """
    settings = read_text_config(location, LLM)
    kinds = (getattr(settings, "layer_types", None) or ["sliding_attention"])[: config.layer]
    for kind, option in (("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size")):
        window = getattr(settings, option, None)
        if kind in kinds and window and config.max_length > window:
            raise ConfigError(
                f"student.max_length = {config.max_length}: block {kinds.index(kind)} of {location} looks at windows "
                f"of {window} tokens; set student.max_length = {window} or less"
            )


def other_site(location: str, config: StudentConfig) -> str:
    """Return the advice for a block without the named linear layer: the nearest block that has it."""
    settings = read_text_config(location, LLM)
    with loading(location, LLM), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings, trust_remote_code=False)
    having = [i for i, block in enumerate(find_blocks(model)[1]) if len(_matching(block, config.module)) == 1]
    above = [i for i in having if i > config.layer] or having[-1:]
    return (
        f"the next block with exactly one is {above[0]}" if above else "no block has exactly one; name another module"
    )
