from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from flipkd_sdk.training import distributed
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models.attention import fastest_attention
from flipkd_sdk.training.models.student import Student, create_student

if TYPE_CHECKING:
    from pathlib import Path

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


@pytest.fixture
def student(tiny_llama: Path) -> Student:
    return create_student(str(tiny_llama), StudentConfig(layer=2, rank=4, site_rank=16)).eval()


def attention_of(student: Student) -> str:
    return student.model.get_base_model().config._attn_implementation


@pytest.mark.parametrize(
    ("device", "bf16", "expected"),
    [("cpu", True, "eager"), ("cpu", False, "sdpa"), ("cuda", True, "sdpa"), ("cuda", False, "sdpa")],
)
def test_plain_in_bfloat16_on_the_cpu_alone(
    student: Student, monkeypatch: pytest.MonkeyPatch, device: str, bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(distributed, "device", lambda: torch.device(device))
    with fastest_attention(student, bf16=bf16):
        assert attention_of(student) == expected
    assert attention_of(student) == "sdpa"


def test_what_it_was_comes_back_after_an_error(student: Student) -> None:
    with pytest.raises(KeyboardInterrupt), fastest_attention(student, bf16=True):
        raise KeyboardInterrupt
    assert attention_of(student) == "sdpa"


def test_it_computes_the_same(student: Student) -> None:
    with torch.no_grad():
        fused = student(IDS, MASK)
        with fastest_attention(student, bf16=True):
            plain = student(IDS, MASK)
    torch.testing.assert_close(plain, fused, rtol=0, atol=1e-6)


def test_what_is_no_model_of_transformers_stays_as_it_is() -> None:
    model = torch.nn.Linear(2, 2)
    with fastest_attention(model, bf16=True):
        torch.testing.assert_close(model(torch.eye(2)) - model.bias, model.weight.T)
