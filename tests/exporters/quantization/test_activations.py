from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from families import BATCHES, Exported

from flipkd_sdk.exporters.graph.nodes import constant, input_of, linear_nodes
from flipkd_sdk.exporters.quantization.activations import channel_maxima, input_statistics, linear_inputs

if TYPE_CHECKING:
    from pathlib import Path


def seen_by_torch(exported: Exported, path: str) -> list[np.ndarray]:
    """What reaches a linear layer of the student, batch by batch."""
    seen: list[np.ndarray] = []
    layer = exported.path.model.get_submodule(path)
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy()))
    with torch.no_grad():
        for batch in BATCHES:
            exported.path(*(torch.from_numpy(array) for array in batch.values()))
    handle.remove()
    return seen


@pytest.mark.parametrize("layer", ["self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj"])
def test_maxima_are_those_of_what_reaches_the_layer(llama: Exported, tmp_path: Path, layer: str) -> None:
    maxima = channel_maxima(llama.graph, BATCHES, tmp_path)
    expected = np.max(
        [np.abs(seen).max(axis=(0, 1)) for seen in seen_by_torch(llama, f"model.layers.0.{layer}")], axis=0
    )
    assert any(
        largest == pytest.approx(expected, abs=1e-5) for largest in maxima.values() if len(largest) == len(expected)
    )
    assert not list(tmp_path.iterdir()), "the instrumented graph is removed"


def test_inputs_come_token_by_token(llama: Exported, tmp_path: Path) -> None:
    for batch, inputs in zip(BATCHES, linear_inputs(llama.graph, BATCHES, tmp_path), strict=True):
        assert {len(activation) for activation in inputs.values()} == {batch["input_ids"].size}


def test_layers_that_share_an_input_name_it_once(llama: Exported, tmp_path: Path) -> None:
    names = [input_of(node) for node in linear_nodes(llama.graph)]
    assert len(names) == 7
    assert channel_maxima(llama.graph, BATCHES, tmp_path).keys() == set(names)
    assert len(set(names)) == 4


def test_the_range_contains_all_values_and_zero(llama: Exported, tmp_path: Path) -> None:
    extremes: dict[str, list[tuple[float, float]]] = {}
    for inputs in linear_inputs(llama.graph, BATCHES, tmp_path):
        for name, activation in inputs.items():
            extremes.setdefault(name, []).append((float(activation.min()), float(activation.max())))
    for name, statistics in input_statistics(llama.graph, BATCHES, tmp_path).items():
        low, high = zip(*extremes[name], strict=True)
        assert statistics.low == min(0.0, *low)
        assert statistics.high == max(0.0, *high)


def test_what_is_not_constant_is_refused(llama: Exported) -> None:
    with pytest.raises(TypeError, match=r"input_ids.* is not a constant"):
        constant(llama.graph.graph.inputs[0])
