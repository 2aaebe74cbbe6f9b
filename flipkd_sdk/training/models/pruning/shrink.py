"""A smaller LLM to start from, with pruned MLPs.

It is a model directory in the run directory, on which adapters are trained as on any LLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.atomic import atomic_directory
from flipkd_sdk.training.models.pruning.mlp_pruning import narrow
from flipkd_sdk.training.models.student import load_base, locate

if TYPE_CHECKING:
    from pathlib import Path

    from flipkd_sdk.training.config.schema import StudentConfig
    from flipkd_sdk.training.tokens import TokenizedTexts

SAMPLE = 1000
"""Number of texts that decide which neurons are kept."""


def reshape(location: str, config: StudentConfig, tokens: TokenizedTexts, directory: Path) -> None:
    """Write the LLM that the student starts from, unless it exists already.

    Weights are stored as float16, which has more precision than the bfloat16 that most LLMs are published in.

    Args:
        location: the LLM's directory.
        config: the student's options, ``mlp_width`` among them.
        tokens: a sample of the domain's texts.
        directory: directory to write; it appears at the end, complete.

    Raises:
        ModelSourceError: there is no such LLM.
        ConfigError: its MLPs cannot be pruned to that width.
    """
    if directory.is_dir():
        return
    config = locate(location, config)
    model = load_base(location, config)
    narrow(model, tokens, config)
    model.half()
    with atomic_directory(directory, exclusive=True) as working:
        model.save_pretrained(working)
