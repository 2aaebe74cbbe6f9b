from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tiny import TEXTS
from tiny_models import pretrained_tokenizer, tiny_config
from transformers import AutoModelForCausalLM

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models.pruning.shrink import reshape
from flipkd_sdk.training.run import train
from flipkd_sdk.training.run_directory import read_run
from flipkd_sdk.training.tokens import tokenize

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

TOKENS = tokenize(pretrained_tokenizer(), list(TEXTS), 48)


def reshaped(location: Path, directory: Path, options: StudentConfig) -> PreTrainedModel:
    reshape(str(location), options, TOKENS, directory)
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def test_a_smaller_llm_that_is_there_is_not_made_again(tiny_llama: Path, tmp_path: Path) -> None:
    options = StudentConfig(layer=1, rank=4, mlp_width=20)
    reshaped(tiny_llama, tmp_path / "base", options)
    reshape("no such LLM", options, TOKENS, tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_run_keeps_the_smaller_llm_that_its_adapter_was_trained_on(tmp_path: Path) -> None:
    train(tiny_config(tmp_path, student={"mlp_width": 20}), tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.base is not None
    model = AutoModelForCausalLM.from_pretrained(run.base)
    assert len(model.model.layers) == run.config.student.layer + 1
    assert model.config.intermediate_size == 20


def test_a_width_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"student\.mlp_width = 48"):
        train(tiny_config(tmp_path, student={"mlp_width": 48}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_decoder_path_needs_the_llm_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss\.label_lm trains the whole LLM"):
        tiny_config(tmp_path, student={"mlp_width": 20}, loss={"label_lm": 1.0})
