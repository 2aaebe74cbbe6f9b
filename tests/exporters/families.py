"""Random students of every family, one block below the site, exported once a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from tiny_models import llm_sizes, write_model

from flipkd_sdk.exporters.encoders.encoder_path import EncoderPath, extract
from flipkd_sdk.exporters.graph.translation import export_graph
from flipkd_sdk.exporters.quantization.activations import open_graph
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models.student import Student, create_student

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir
    from numpy.typing import NDArray

    from flipkd_sdk.exporters.quantization.sample_batches import Batch

DIMENSION = 6


@dataclass(frozen=True)
class Family:
    config: str
    module: str
    attention: str
    pooling: str
    linear_layers: int
    """Of one block, and of the second block in front of the site."""
    folds: int
    """Inputs of linear layers that SmoothQuant can reach."""
    inputs: int
    """Distinct inputs of linear layers."""
    changes: tuple[tuple[str, Any], ...] = ()


FAMILIES = {
    "Llama": Family("LlamaConfig", "q_proj", "bidirectional", "mean", 7, 4, 4),
    "Llama-without-GQA": Family(
        "LlamaConfig", "down_proj", "causal", "mean", 13, 7, 7, (("num_key_value_heads", 4), ("mlp_bias", True))
    ),
    "Qwen2": Family("Qwen2Config", "q_proj", "bidirectional", "last", 7, 4, 4),
    "Qwen3": Family("Qwen3Config", "k_proj", "causal", "mean", 7, 4, 4),
    "Mistral": Family("MistralConfig", "q_proj", "bidirectional", "mean", 7, 4, 4, (("sliding_window", 128),)),
    "Gemma3": Family("Gemma3TextConfig", "v_proj", "causal", "last", 7, 4, 4, (("sliding_window", 128),)),
    "GLM": Family("GlmConfig", "o_proj", "bidirectional", "mean", 9, 5, 5, (("attention_bias", True),)),
    # A nonlinearity lies between GPT-2's c_fc and the second c_proj.
    "GPT-2": Family("GPT2Config", "c_attn", "causal", "mean", 4, 3, 4),
}


@dataclass(frozen=True)
class Exported:
    name: str
    family: Family
    unmerged: list[NDArray[np.float32]]
    """The student's vectors of `BATCHES`."""
    path: EncoderPath
    graph: ir.Model
    """Tests that change it must clone it."""

    def __repr__(self) -> str:
        return f"<{self.name}>"


def sample(rows: int, width: int, seed: int) -> Batch:
    """Random tokens; each row has three tokens fewer than the one before it, and at least one."""
    lengths = np.maximum(1, width - 3 * np.arange(rows))
    mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    return {"input_ids": np.random.default_rng(seed).integers(3, 256, (rows, width)), "attention_mask": mask}


BATCHES = [sample(rows, width, seed) for seed, (rows, width) in enumerate([(1, 1), (1, 7), (3, 9), (6, 40)])]


def write_family(path: Path, name: str) -> Path:
    family = FAMILIES[name]
    torch.manual_seed(0)
    sizes = llm_sizes(**dict(family.changes))
    if family.config == "GPT2Config":
        names = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}
        sizes = {"vocab_size": sizes["vocab_size"], **{new: sizes[old] for new, old in names.items()}}
    config = getattr(transformers, family.config)(**sizes)
    return write_model(path, transformers.AutoModelForCausalLM.from_config(config))


def student_of(path: Path, name: str) -> Student:
    """A student as if trained: no adapter, bias or normalization is as it was initialized."""
    family = FAMILIES[name]
    options = StudentConfig(
        layer=1,
        module=family.module,
        rank=4,
        site_rank=DIMENSION,
        alpha=4.0,
        attention=family.attention,
        pooling=family.pooling,
    )
    student = create_student(str(path), options)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.parameters():
            if weight.requires_grad or weight.ndim == 1:
                weight.add_(torch.randn(weight.shape, generator=random) * 0.2)
    return student.eval()


def exported(path: Path, name: str) -> Exported:
    student = student_of(write_family(path, name), name)
    unmerged = torch_vectors(student)
    encoder_path = extract(student)
    return Exported(name, FAMILIES[name], unmerged, encoder_path, export_graph(encoder_path))


@torch.no_grad()
def torch_vectors(module: torch.nn.Module) -> list[NDArray[np.float32]]:
    return [module(*(torch.from_numpy(array) for array in batch.values())).numpy() for batch in BATCHES]


def graph_vectors(graph: ir.Model, working: Path) -> list[NDArray[np.float32]]:
    session = open_graph(graph, working)
    return [session.run(["sentence_embedding"], batch)[0] for batch in BATCHES]


def largest_difference(one: list[NDArray[np.float32]], other: list[NDArray[np.float32]]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
