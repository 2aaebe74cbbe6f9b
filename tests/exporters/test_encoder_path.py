from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from families import BATCHES, Exported, largest_difference, student_of, torch_vectors, write_family
from transformers.pytorch_utils import Conv1D

from flipkd_sdk.errors import VerificationError
from flipkd_sdk.exporters.encoders.encoder_path import extract

if TYPE_CHECKING:
    from pathlib import Path


def test_merging_moves_no_vector(family: Exported) -> None:
    merged = torch_vectors(family.path)
    assert largest_difference(merged, family.unmerged) <= 1e-5
    spread = torch.from_numpy(merged[-1])
    assert float((spread - spread[0]).abs().max()) > 0.02, "vectors that are all alike would prove nothing"


def test_no_adapter_and_no_transposed_layer_is_left(family: Exported) -> None:
    assert not [name for name, _ in family.path.named_parameters() if "lora" in name]
    assert not [module for module in family.path.modules() if isinstance(module, Conv1D)]


def test_the_encoder_is_the_adapters_a(tmp_path: Path) -> None:
    student = student_of(write_family(tmp_path, "Llama"), "Llama")
    encoder = student.encoder_weight.detach().clone()
    path = extract(student)
    assert torch.equal(path.encoder_weight, encoder)
    assert not path.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    student = student_of(write_family(tmp_path, "Llama"), "Llama")
    layer = student.model.get_base_model().model.layers[0].mlp.up_proj
    with torch.no_grad():
        layer.lora_B["default"].weight[0, 0] = value
    with pytest.raises(VerificationError, match=r"weight model\.model\.layers\.0\.mlp\.up_proj\.weight holds NaN"):
        extract(student)


def test_a_row_does_not_see_its_batch(family: Exported) -> None:
    ids, mask = (torch.from_numpy(array) for array in BATCHES[-1].values())
    length = int(mask[-1].sum())
    with torch.no_grad():
        alone = family.path(ids[-1:, :length], mask[-1:, :length])
    assert float((alone[0] - torch_vectors(family.path)[-1][-1]).abs().max()) <= 1e-6
