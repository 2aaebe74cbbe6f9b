from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TEXTS
from tiny_models import llm_sizes, pretrained_tokenizer, write_model

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models.pruning.mlp_pruning import narrow, prune_neurons
from flipkd_sdk.training.models.student import load_base
from flipkd_sdk.training.tokens import tokenize

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

OPTIONS = StudentConfig(layer=2, rank=4, site_rank=16, mlp_width=40)
TOKENS = tokenize(pretrained_tokenizer(), list(TEXTS), 48)


def squared_error(inputs: torch.Tensor, weight: torch.Tensor, kept: torch.Tensor, refit: torch.Tensor) -> float:
    return float((inputs @ weight.T - inputs[:, kept] @ refit.T).square().sum())


@given(seed=st.integers(0, 10**6), width=st.integers(1, 7))
@settings(max_examples=30)
def test_the_weights_left_are_the_best_ones_for_the_inputs_left(seed: int, width: int) -> None:
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(8, 8, generator=random)
    inputs = (torch.randn(200, 8, generator=random) @ mixing).double()
    weight = torch.randn(5, 8, generator=random).double()
    kept, refit = prune_neurons(weight, inputs.T @ inputs, width)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert refit.shape == (5, width)
    damping = 1e-3 * inputs.square().sum() / 8  # of a change of weights, as if there were more inputs
    inputs = torch.cat([inputs, damping.sqrt() * torch.eye(8)])
    best = torch.linalg.lstsq(inputs[:, kept], inputs @ weight.T).solution.T
    assert torch.allclose(refit, best)


def test_neurons_that_others_can_stand_in_for_leave_first() -> None:
    random = torch.Generator().manual_seed(0)
    different = torch.randn(300, 5, generator=random).double()
    inputs = torch.cat([different, 2 * different[:, :3]], dim=1)  # the last three say what the first three say
    weight = torch.randn(4, 8, generator=random).double()
    kept, refit = prune_neurons(weight, inputs.T @ inputs, 5)
    assert {column % 5 for column in kept.tolist()} == {0, 1, 2, 3, 4}
    assert squared_error(inputs, weight, kept, refit) <= 1e-4 * float((inputs @ weight.T).square().sum())


def states(model: PreTrainedModel) -> np.ndarray:
    batch = TOKENS.batch(range(len(TEXTS)))
    with torch.inference_mode():
        return model(**batch, output_hidden_states=True).hidden_states[OPTIONS.layer].numpy()


def test_a_narrowed_llm_computes_nearly_the_same_and_more_so_the_wider_it_is(tiny_llama: Path) -> None:
    before, errors = states(load_base(str(tiny_llama), OPTIONS)), []
    for width in (12, 40, 47):
        model = load_base(str(tiny_llama), OPTIONS)
        narrow(model, TOKENS, OPTIONS.model_copy(update={"mlp_width": width}))
        assert {block.mlp.down_proj.in_features for block in model.model.layers} == {width}
        assert model.config.intermediate_size == width
        errors.append(float(np.square(states(model) - before).mean() / np.square(before).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 < errors[0]


def test_an_llm_that_is_narrow_already_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(ConfigError, match=r"mlp_width = 48: the MLPs have 48 neurons"):
        narrow(load_base(str(tiny_llama), OPTIONS), TOKENS, OPTIONS.model_copy(update={"mlp_width": 48}))


def test_an_mlp_without_a_gate_is_refused(tmp_path: Path) -> None:
    sizes = llm_sizes()
    config = transformers.GPT2Config(vocab_size=sizes["vocab_size"], n_embd=32, n_layer=4, n_head=4)
    path = write_model(tmp_path, transformers.GPT2LMHeadModel(config))
    options = OPTIONS.model_copy(update={"module": "c_attn"})
    with pytest.raises(ConfigError, match=r"no MLP of gate_proj, up_proj, down_proj"):
        narrow(load_base(str(path), options), TOKENS, options)
