"""Toy models and data to train on: random weights, a few blocks, loadable by transformers from their directories.

Without position and type embeddings a random encoder already scores texts that share words above texts that do not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import torch
from tiny import tiny_tokenizer
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from flipkd_sdk.pairs import Pairs, write_pairs
from flipkd_sdk.training.config.load import validate_config
from flipkd_sdk.training.run import train

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

    from flipkd_sdk.training.config.schema import TrainConfig

TEACHER_DIMENSION = 24
HIDDEN = 32
BLOCKS = 4

_SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
_ACTIONS = ("reset", "change", "find", "lose", "block", "order", "activate", "cancel", "trace", "return")
_THINGS = ("card", "PIN", "password", "transfer", "loan", "statement", "top-up", "payment", "account", "currency")
_PLACES = ("abroad", "online", "in the app", "at a cash machine", "by phone", "today", "from my phone", "at home")


def pretrained_tokenizer(tokenizer: Tokenizer | None = None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer or tiny_tokenizer(), **_SPECIAL_TOKENS)


def llm_sizes(**changes: Any) -> dict[str, Any]:
    """Options that the configurations of all decoder-only families understand."""
    return {
        "vocab_size": tiny_tokenizer().get_vocab_size(),
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **changes,
    }


def write_model(path: Path, model: PreTrainedModel, *, tokenizer: Tokenizer | None = None) -> Path:
    """Save a model and a tokenizer as transformers does."""
    model.save_pretrained(path)
    pretrained_tokenizer(tokenizer).save_pretrained(path)
    return path


def write_tiny_llama(path: Path, *, tokenizer: Tokenizer | None = None, seed: int = 0, **changes: Any) -> Path:
    """Write a random Llama of 4 blocks with its head; ``changes`` go to its configuration."""
    torch.manual_seed(seed)
    return write_model(path, LlamaForCausalLM(LlamaConfig(**llm_sizes(**changes))), tokenizer=tokenizer)


def write_tiny_gguf(path: Path) -> LlamaForCausalLM:
    """Write a random Llama of 4 blocks, with its tokenizer, as a GGUF file in float32, and return the model."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**llm_sizes(tie_word_embeddings=True)))
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    _write_gguf_tokenizer(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.model.state_dict(prefix="model.").items():
        values = tensor.numpy()
        for projection, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if projection in name:  # llama.cpp interleaves the two halves that are rotated against each other
                values = values.reshape(heads, 2, -1, config.hidden_size).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _write_gguf_tokenizer(writer: gguf.GGUFWriter) -> None:
    model = json.loads(tiny_tokenizer().to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    special = set(_SPECIAL_TOKENS.values())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in special else normal for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def write_tiny_teacher(path: Path, *, pooling: str = "mean", seed: int = 1) -> Path:
    """Write a random BERT in the layout of sentence-transformers."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tiny_tokenizer().get_vocab_size(),
        hidden_size=TEACHER_DIMENSION,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.1,
        pad_token_id=0,
    )
    model = BertModel(config)
    with torch.no_grad():
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
    write_model(path, model)
    keys = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "lasttoken": "lasttoken"}
    options = {f"pooling_mode_{key}": pooling == name for name, key in keys.items()}
    (path / "1_Pooling").mkdir(exist_ok=True)
    (path / "1_Pooling" / "config.json").write_text(json.dumps(options), encoding="utf-8")
    return path


def tiny_pairs(count: int, seed: int = 0) -> Pairs:
    """In turn pairs that mean the same and pairs that share the verb alone; no text is in two pairs, of any seeds."""
    rng = np.random.default_rng(seed)

    def text(action: int, thing: int, place: int, number: int, opening: str) -> str:
        return f"{opening} {_ACTIONS[action]} my {_THINGS[thing]} {_PLACES[place]} {seed}-{number}"

    a, b, label = [], [], []
    for number in range(count):
        match = number % 2 == 0
        action = rng.integers(len(_ACTIONS))
        thing, other_thing = rng.choice(len(_THINGS), 2, replace=False)
        place, other_place = rng.choice(len(_PLACES), 2, replace=False)
        a.append(text(action, thing, place, number, "how do I"))
        b.append(text(action, thing if match else other_thing, place if match else other_place, number, "I want to"))
        label.append(int(match))
    return Pairs(tuple(a), tuple(b), np.array(label, np.int8))


def tiny_config(directory: Path, **changes: dict[str, Any] | float | str) -> TrainConfig:
    """Write models and pairs into a directory, and the options of a training that takes about a second.

    Args:
        directory: where the models and the data go; what is there already is used.
        changes: sections with options that differ, or options outside sections.
    """
    llama, teacher = directory / "llama", directory / "teacher"
    if not llama.exists():
        write_tiny_llama(llama)
        write_tiny_teacher(teacher)
        for seed, (name, count) in enumerate({"train": 48, "dev": 24, "test": 24}.items()):
            write_pairs(tiny_pairs(count, seed), directory / f"{name}.csv")
    content: dict[str, Any] = {
        "precision": "fp32",  # the same figures on every machine
        "data": {"pairs": directory / "train.csv", "dev": directory / "dev.csv", "test": directory / "test.csv"},
        "teacher": {"source": str(teacher), "max_length": 48, "epochs": 0},
        "student": {"source": str(llama), "layer": 2, "rank": 4, "site_rank": 16, "alpha": 4.0, "max_length": 48},
        "alignment": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "fewest_texts": 0},
        "labels": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3},
        "head": {"enabled": False},
    }
    for name, change in changes.items():
        content[name] = {**content.get(name, {}), **change} if isinstance(change, dict) else change
    return validate_config(content, origin="test")


def write_tiny_run(path: Path, **changes: dict[str, Any] | float | str) -> Path:
    """Train a tiny student and write its run directory; the models and the data lie beside it, in ``NAME_inputs``."""
    inputs = path.with_name(f"{path.name}_inputs")
    inputs.mkdir(parents=True, exist_ok=True)
    train(tiny_config(inputs, **changes), path)
    return path
