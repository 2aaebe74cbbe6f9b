"""The static student: token vectors, weights, its file, and the options that it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import HIDDEN, tiny_config

from flipkd_sdk.errors import ConfigError, TrainingError
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models.static import FILE, StaticStudent, load_static_student, without_adapters

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = StudentConfig(layer=0, module="embedding", site_rank=6)


def student(vocabulary: int = 40, **options: object) -> StaticStudent:
    """A student whose tokens 3, 7 and 5 have random corrections and weights."""
    random = torch.Generator().manual_seed(0)
    made = StaticStudent(torch.randn(vocabulary, HIDDEN, generator=random), OPTIONS.model_copy(update=options))
    made.open_rows([3, 7, 5])
    with torch.no_grad():
        for weight in (made.encoder_weight, made.correction, made.weight):
            weight.copy_(torch.randn(weight.shape, generator=random))
    return made.eval()


def batch(*texts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, texts))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    return ids, mask


def test_a_text_is_the_normalized_sum_of_its_token_vectors() -> None:
    made = student()
    texts = [[3, 7, 7], [5], [9, 3]]
    sums = torch.stack([made.token_vectors(torch.tensor(text)).sum(dim=0) for text in texts])
    expected = torch.nn.functional.normalize(sums, dim=-1)
    assert torch.allclose(made(*batch(*texts)), expected, atol=1e-6)


def test_a_token_that_training_has_not_seen_is_read_by_a_alone() -> None:
    made = student()
    unseen = made.token_vectors(torch.tensor([9]))
    assert torch.allclose(unseen, made.weight[0].exp() * made.embedding[[9]] @ made.encoder_weight.T, atol=1e-5)


def test_padding_changes_nothing() -> None:
    made = student()
    alone = made(*batch([3, 9]))
    padded = made(*batch([3, 9], [7, 7, 7, 7, 5]))[:1]
    assert torch.allclose(alone, padded, atol=1e-6)


def test_an_empty_text_is_the_zero_vector_and_no_nan() -> None:
    assert torch.equal(student()(torch.tensor([[3]]), torch.tensor([[0]])), torch.zeros(1, 6))


def test_token_dropout_leaves_every_text_a_token_and_acts_in_training_alone() -> None:
    made = student(token_dropout=0.9)
    ids, mask = batch([3, 7, 5], [9])
    steady = made(ids, mask)
    assert torch.equal(steady, made(ids, mask))
    torch.manual_seed(0)
    drawn = torch.stack([made.train()(ids, mask) for _ in range(20)])
    assert drawn.norm(dim=-1).min() > 0.99
    assert len(drawn[:, 0].unique(dim=0)) > 1


def test_what_was_saved_is_loaded(tiny_llama: Path, tmp_path: Path) -> None:
    first = load_after_saving(tiny_llama, tmp_path)
    again = load_static_student(str(tiny_llama), tmp_path, OPTIONS)
    ids = torch.arange(30)
    assert torch.equal(first.token_vectors(ids), again.token_vectors(ids))


def load_after_saving(tiny_llama: Path, directory: Path) -> StaticStudent:
    made = student()
    made.save(directory)
    return load_static_student(str(tiny_llama), directory, OPTIONS)


@pytest.mark.parametrize("tokens", [[3, 3, 5], [3, 7, 10**6], [3, 7, -1], [0.5, 1.0, 2.0]])
def test_a_file_with_impossible_tokens_is_refused(tiny_llama: Path, tmp_path: Path, tokens: list[float]) -> None:
    load_after_saving(tiny_llama, tmp_path)
    weights = load_file(tmp_path / FILE)
    save_file(weights | {"tokens": torch.tensor(tokens)}, tmp_path / FILE)
    with pytest.raises(TrainingError, match="its tokens are not distinct ids of"):
        load_static_student(str(tiny_llama), tmp_path, OPTIONS)


@pytest.mark.parametrize("name", ["correction", "weight", "encoder_weight", "tokens"])
def test_a_file_without_a_weight_is_refused(tiny_llama: Path, tmp_path: Path, name: str) -> None:
    load_after_saving(tiny_llama, tmp_path)
    weights = load_file(tmp_path / FILE)
    del weights[name]
    save_file(weights, tmp_path / FILE)
    with pytest.raises(TrainingError, match=FILE):
        load_static_student(str(tiny_llama), tmp_path, OPTIONS)


def test_options_of_adapters_are_named_in_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config(
        tmp_path,
        preset="static",
        student={"layer": 0, "alpha": 4.0, "attention": "causal"},
        labels={"loraplus_lr_ratio": 8.0},
    )
    reset = without_adapters(config)
    (record,) = caplog.records
    assert record.getMessage() == (
        "a static student runs no block, so student.alpha, student.attention, labels.loraplus_lr_ratio have no effect"
    )
    assert (reset.student.attention, reset.labels.loraplus_lr_ratio) == ("bidirectional", 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "static", "student": {"layer": 2}}, "a static student runs no block, and student.layer = 2"),
        ({"student": {"layer": 2, "module": "embedding"}}, "student.module = 'embedding' is in one"),
        ({"preset": "static", "student": {"layer": 0, "pooling": "last"}}, "takes the mean of the token vectors"),
        ({"preset": "static", "student": {"layer": 0, "mlp_width": 8}}, "student.mlp_width: a static student runs no"),
        ({"student": {"layer": 0}, "loss": {"label_lm": 1.0}}, "loss.label_lm: a static student runs no block"),
        ({"student": {"layer": 0, "token_dropout": 1.0}}, "less than 1"),
    ],
)
def test_options_that_need_a_block_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_config(tmp_path, **changes)
    assert message in str(caught.value)


def test_depth_0_is_the_static_student_unless_another_module_is_named(tmp_path: Path) -> None:
    assert tiny_config(tmp_path, student={"layer": 0}).student.is_static
    assert not tiny_config(tmp_path, student={"layer": 0, "module": "q_proj"}).student.is_static
