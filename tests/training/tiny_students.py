"""Tiny random students of each model family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from tiny_models import llm_sizes, write_model

from flipkd_sdk.training.config.schema import StudentConfig

if TYPE_CHECKING:
    from pathlib import Path

    from flipkd_sdk.training.models.student import Student

OPTIONS = StudentConfig(layer=2, rank=4, site_rank=16, alpha=4.0)

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("q_proj", {}),
    "Qwen2": ("q_proj", {}),
    "Qwen3": ("k_proj", {}),
    "Mistral": ("q_proj", {"sliding_window": 128}),
    "Gemma3": ("v_proj", {"sliding_window": 128}),
    "Glm": ("o_proj", {}),
    "GPT2": ("c_attn", {}),
}
"""A decoder-only family: its module to read at, and what its configuration needs beside the usual."""


def trained(student: Student) -> Student:
    """The student after a training that left no adapter at zero."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.parameters():
            if weight.requires_grad:
                weight.copy_(torch.randn(weight.shape, generator=random) * 0.2)
    return student.eval()


def write_family(path: Path, family: str) -> Path:
    torch.manual_seed(0)
    sizes = llm_sizes(**FAMILIES[family][1])
    if family == "GPT2":
        names = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}
        renamed = {new: sizes[old] for new, old in names.items()}
        config = transformers.GPT2Config(vocab_size=sizes["vocab_size"], **renamed)
    else:
        config_class = getattr(transformers, f"{family}TextConfig" if family == "Gemma3" else f"{family}Config")
        config = config_class(**sizes)
    return write_model(path, transformers.AutoModelForCausalLM.from_config(config))
