"""A smaller LLM to start from, with blocks of the full depth or pruned MLPs.

It is a model directory in the run directory, on which adapters are trained as on any LLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from flipkd_sdk.atomic import atomic_directory
from flipkd_sdk.training.models.blocks import find_blocks
from flipkd_sdk.training.models.mlp_pruning import narrow
from flipkd_sdk.training.models.student import load_base, locate

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from flipkd_sdk.training.config.schema import StudentConfig
    from flipkd_sdk.training.data.tokens import TokenizedTexts

SAMPLE = 1000
"""Number of texts that decide which neurons are kept."""


def reshape(location: str, config: StudentConfig, tokens: TokenizedTexts, directory: Path) -> None:
    """Write the LLM that the student starts from, unless it exists already.

    Weights are stored as float16, which has more precision than the bfloat16 that most LLMs are published in.

    Args:
        location: the LLM's directory.
        config: the student's options, ``blocks`` and ``mlp_width`` among them.
        tokens: a sample of the domain's texts.
        directory: directory to write; it appears at the end, complete.

    Raises:
        ModelSourceError: there is no such LLM.
        ConfigError: its MLPs cannot be pruned to that width.
    """
    if directory.is_dir():
        return
    config = locate(location, config)
    model = load_base(location, config, full_model=config.blocks == "spread")
    if config.blocks == "spread":
        _spread(model, config.layer + 1)
    if config.mlp_width is not None:
        narrow(model, tokens, config)
    model.half()
    with atomic_directory(directory, exclusive=True) as working:
        model.save_pretrained(working)


def _spread(model: PreTrainedModel, count: int) -> None:
    """Keep a number of evenly spaced blocks, the first and the last included, in place."""
    path, blocks = find_blocks(model)
    chosen = np.rint(np.linspace(0, len(blocks) - 1, count)).astype(int).tolist()
    model.set_submodule(path, nn.ModuleList(blocks[i] for i in chosen))
    model.config.num_hidden_layers = count
    if kinds := getattr(model.config, "layer_types", None):
        model.config.layer_types = [kinds[i] for i in chosen]
