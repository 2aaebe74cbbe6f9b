from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import LlamaForCausalLM

from flipkd_sdk.training.models.readout import attention_bias, pool, site_input, text_vectors

if TYPE_CHECKING:
    from pathlib import Path

LAYER = 2


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


def states(
    llama: LlamaForCausalLM, rows: list[list[int]], *, attention: str = "causal", stop: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    site = llama.model.layers[LAYER].self_attn.q_proj
    with torch.inference_mode():
        return site_input(llama.model, site, ids, mask, attention=attention, stop=stop), mask


def test_the_site_sees_the_normalized_output_of_the_blocks_below(llama: LlamaForCausalLM) -> None:
    ids = [5, 17, 300, 42]
    with torch.inference_mode():
        below = llama.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER]
        expected = llama.model.layers[LAYER].input_layernorm(below)
    assert torch.allclose(states(llama, [ids])[0], expected, atol=1e-6)


def test_stopping_at_the_site_changes_nothing(llama: LlamaForCausalLM) -> None:
    rows = [[5, 17, 300, 42], [9]]
    assert torch.equal(states(llama, rows, stop=True)[0], states(llama, rows, stop=False)[0])


def test_the_hook_is_gone_after_the_pass(llama: LlamaForCausalLM) -> None:
    states(llama, [[5, 6]])
    assert not llama.model.layers[LAYER].self_attn.q_proj._forward_pre_hooks


@pytest.mark.parametrize(("attention", "seen"), [("causal", False), ("bidirectional", True)])
def test_the_first_token_sees_the_last_one_only_both_ways(llama: LlamaForCausalLM, attention: str, seen: bool) -> None:
    one, _ = states(llama, [[5, 17, 300, 42]], attention=attention)
    other, _ = states(llama, [[5, 17, 300, 43]], attention=attention)
    assert bool((one[0, 0] - other[0, 0]).abs().max() > 1e-4) is seen


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_padding_does_not_move_a_text(llama: LlamaForCausalLM, attention: str, pooling: str) -> None:
    short, long = [5, 17, 300], [9, 8, 7, 6, 5, 4, 3, 10, 11]
    encoder = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))

    def vectors(rows: list[list[int]]) -> torch.Tensor:
        hidden, mask = states(llama, rows, attention=attention)
        return text_vectors(hidden, encoder, mask, pooling=pooling)

    alone, padded = vectors([short]), vectors([short, long])
    assert torch.allclose(alone[0], padded[0], atol=1e-6)
    assert torch.allclose(padded.norm(dim=1), torch.ones(2), atol=1e-6)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_row_of_padding_alone_is_not_nan(llama: LlamaForCausalLM, attention: str, pooling: str) -> None:
    hidden, mask = states(llama, [[], [5, 6, 7]], attention=attention)
    vectors = text_vectors(hidden, torch.ones(4, 32), mask, pooling=pooling)
    assert torch.isfinite(vectors).all()
    if pooling == "mean":
        assert not vectors[0].any()


def test_attention_bias_opens_what_may_be_seen() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    causal = attention_bias(mask, "causal", torch.float32)
    both_ways = attention_bias(mask, "bidirectional", torch.float32)
    assert causal.shape == both_ways.shape == (2, 1, 4, 4)
    for row in range(2):
        for query in range(4):
            for key in range(4):
                visible = bool(mask[row, key])
                assert bool(both_ways[row, 0, query, key] == 0) is visible
                assert bool(causal[row, 0, query, key] == 0) is (visible and key <= query)
    assert attention_bias(mask, "causal", torch.bfloat16).min() == torch.finfo(torch.bfloat16).min


def test_pool() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]], [[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 3.0], [7.0, 8.0]]
    assert pool(hidden, mask, "last").tolist() == [[3.0, 4.0], [9.0, 10.0]]


def test_projecting_before_pooling_is_the_same() -> None:
    random = torch.Generator().manual_seed(0)
    hidden, encoder = torch.randn(2, 3, 8, generator=random), torch.randn(4, 8, generator=random)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    projected = pool(hidden @ encoder.T, mask, "mean")
    expected = projected / projected.norm(dim=1, keepdim=True)
    assert torch.allclose(text_vectors(hidden, encoder, mask, pooling="mean"), expected, atol=1e-6)
