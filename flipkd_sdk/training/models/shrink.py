"""A smaller LLM to start from: blocks taken from the whole depth, narrower MLPs.

What comes out is a model directory like any other, kept in the run directory; adapters are trained on it as on any LLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from flipkd_sdk.atomic import atomic_directory
from flipkd_sdk.training.models.mlp_pruning import narrow
from flipkd_sdk.training.models.student import find_blocks, load_base, locate

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from flipkd_sdk.training.config.schema import StudentConfig
    from flipkd_sdk.training.data.tokens import TokenizedTexts

SAMPLE = 1000
"""Texts that the neurons are chosen by."""


def reshape(location: str, config: StudentConfig, tokens: TokenizedTexts, directory: Path) -> None:
    """Write the LLM that the student starts from, unless it is there already.

    Weights are stored as float16, which is finer than what most LLMs are published in.

    Args:
        location: the LLM's directory.
        config: the student's options, ``blocks`` and ``mlp_width`` among them.
        tokens: a sample of the domain's texts.
        directory: where the smaller LLM goes; it appears complete, at the very end.

    Raises:
        ModelSourceError: there is no such LLM.
        ConfigError: its MLPs cannot be narrowed like that.
    """
    if directory.is_dir():
        return
    config = locate(location, config)
    model = load_base(location, config, whole=config.blocks == "spread")
    if config.blocks == "spread":
        _spread(model, config.layer + 1)
    if config.mlp_width is not None:
        narrow(model, tokens, config)
    model.half()
    with atomic_directory(directory, exclusive=True) as working:
        model.save_pretrained(working)


def _spread(model: PreTrainedModel, count: int) -> None:
    """Keep as many blocks, at even distances, the first and the last one among them; in place."""
    path, blocks = find_blocks(model)
    chosen = np.rint(np.linspace(0, len(blocks) - 1, count)).astype(int).tolist()
    model.set_submodule(path, nn.ModuleList(blocks[i] for i in chosen))
    model.config.num_hidden_layers = count
    if kinds := getattr(model.config, "layer_types", None):
        model.config.layer_types = [kinds[i] for i in chosen]
