from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from tiny import TEXTS
from tiny_models import HIDDEN, llm_sizes, pretrained_tokenizer, write_model
from tiny_students import FAMILIES, OPTIONS, trained, write_family

from flipkd_sdk.errors import ConfigError, ModelSourceError, TrainingError
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models.blocks import cut_blocks, find_site
from flipkd_sdk.training.models.readout import site_input
from flipkd_sdk.training.models.student import (
    Student,
    create_student,
    load_student,
    load_tokenizer,
)
from flipkd_sdk.training.tokens import empty_token_id, encode, tokenize

if TYPE_CHECKING:
    from pathlib import Path

LINEAR = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


def vectors_of(student: Student, texts: list[str], *, batch_size: int = 64) -> np.ndarray:
    tokens = tokenize(pretrained_tokenizer(), texts, student.options.max_length)
    return encode(tokens, student.eval(), batch_size=batch_size)


ENDINGS = [[*range(5, 16), last] for last in (40, 41)]
"""Texts that differ in the last token alone."""


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_becomes_an_encoder(tmp_path: Path, family: str, attention: str) -> None:
    options = OPTIONS.model_copy(update={"module": FAMILIES[family][0], "attention": attention})
    student = trained(create_student(str(write_family(tmp_path, family)), options))
    alone, batched = vectors_of(student, list(TEXTS), batch_size=1), vectors_of(student, list(TEXTS))
    assert batched.shape == (len(TEXTS), 16)
    assert np.abs(alone - batched).max() <= 1e-6
    assert np.linalg.norm(batched, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    first, other = (student.hidden_states(torch.tensor([ids]), torch.ones(1, 12).long()) for ids in ENDINGS)
    assert bool((first[0, 0] - other[0, 0]).abs().max() > 1e-5) is (attention == "bidirectional")


def test_positions_are_those_that_the_llm_itself_counts(tmp_path: Path) -> None:
    path = write_family(tmp_path, "GPT2")  # whose position embeddings are absolute
    options = OPTIONS.model_copy(update={"module": "c_attn", "attention": "causal"})
    student = create_student(str(path), options).eval()
    llm = transformers.GPT2LMHeadModel.from_pretrained(path).eval()
    ids = torch.tensor([[5, 17, 300, 42]])
    with torch.inference_mode():
        below = llm(ids, output_hidden_states=True).hidden_states[options.layer]
        expected = llm.transformer.h[options.layer].ln_1(below)
        assert torch.allclose(student.hidden_states(ids, torch.ones_like(ids)), expected, atol=1e-5)


@pytest.fixture(scope="module")
def student(tiny_llama: Path) -> Student:
    return create_student(str(tiny_llama), OPTIONS)


def test_adapters_are_on_the_linear_layers_below_and_on_the_site_alone(student: Student) -> None:
    adapted = {path for path, module in student.model.named_modules() if hasattr(module, "lora_A")}
    assert {path.removeprefix("base_model.model.model.layers.") for path in adapted} == {
        *(f"{block}.{part}.{name}" for block in (0, 1) for name in LINEAR for part in [part_of(name)]),
        "2.self_attn.q_proj",
    }
    trainable = [name for name, weight in student.named_parameters() if weight.requires_grad]
    assert len(trainable) == 2 * len(adapted)
    assert all("lora_" in name for name in trainable)


def part_of(name: str) -> str:
    return "self_attn" if name[0] in "qkvo" else "mlp"


def test_blocks_above_the_site_are_not_loaded(student: Student) -> None:
    assert len(student.model.get_base_model().model.layers) == OPTIONS.layer + 1


def test_the_site_has_its_own_rank_and_the_common_scale(student: Student) -> None:
    assert student.encoder_weight.shape == (16, HIDDEN)
    layers = student.model.get_base_model().model.layers
    below = layers[0].self_attn.q_proj
    assert below.lora_A["default"].weight.shape == (4, HIDDEN)
    assert below.scaling["default"] == student.site.scaling["default"] == OPTIONS.alpha / OPTIONS.rank


def test_without_a_site_rank_the_site_has_the_rank_of_the_others(tiny_llama: Path) -> None:
    student = create_student(str(tiny_llama), StudentConfig(layer=0, rank=5))
    assert student.encoder_weight.shape == (5, HIDDEN)
    assert sum(hasattr(module, "lora_A") for module in student.modules()) == 1


def test_block_1_is_not_block_11(tmp_path: Path) -> None:
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**llm_sizes(num_hidden_layers=13)))
    student = create_student(str(write_model(tmp_path, model)), StudentConfig(layer=11, rank=2, site_rank=7))
    blocks = student.model.get_base_model().model.layers
    assert [block.self_attn.q_proj.lora_A["default"].out_features for block in blocks] == [2] * 11 + [7]


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_the_adapter_is_plain_peft_and_fits_the_whole_llm(tiny_llama: Path, tmp_path: Path, attention: str) -> None:
    options = OPTIONS.model_copy(update={"attention": attention})
    student = trained(create_student(str(tiny_llama), options))
    student.model.save_pretrained(tmp_path)
    llm = transformers.LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    whole = PeftModel.from_pretrained(llm, str(tmp_path)).eval()
    base = whole.get_base_model()
    assert len(base.model.layers) == 4
    ids, mask = torch.tensor([[5, 17, 300, 42], [9, 8, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.inference_mode():
        site = find_site(base, options)
        seen = site_input(base.model, site, ids, mask, attention=attention, stop=False)
        assert torch.allclose(seen, student.hidden_states(ids, mask), atol=1e-6)
    assert torch.equal(site.lora_A["default"].weight, student.encoder_weight)


def test_a_saved_student_comes_back(tiny_llama: Path, tmp_path: Path) -> None:
    student = trained(create_student(str(tiny_llama), OPTIONS))
    student.model.save_pretrained(tmp_path)
    loaded = load_student(str(tiny_llama), tmp_path, OPTIONS)
    assert not loaded.training
    assert np.array_equal(vectors_of(loaded, list(TEXTS)), vectors_of(student, list(TEXTS)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 4}, r"student.layer = 4: .* has blocks 0 to 3"),
        ({"module": "qproj"}, r"student.module = 'qproj': none of the linear layers of block 1, which are .*q_proj"),
        ({"module": "proj"}, "none of the linear layers"),
        ({"module": "mlp"}, "none of the linear layers"),
    ],
)
def test_a_site_that_is_not_there_is_a_config_error(tiny_llama: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_student(str(tiny_llama), StudentConfig(**{"layer": 1, **options}))


@pytest.mark.parametrize("whole", [False, True])
def test_layer_minus_1_is_the_last_block(tiny_llama: Path, tmp_path: Path, whole: bool) -> None:
    options = OPTIONS.model_copy(update={"layer": -1})
    student = create_student(str(tiny_llama), options, full_model=whole)
    assert student.options == OPTIONS.model_copy(update={"layer": 3})
    student.model.save_pretrained(tmp_path)
    assert load_student(str(tiny_llama), tmp_path, options).options.layer == 3
    adapted = sum(hasattr(module, "lora_A") for module in student.modules())
    assert adapted == (4 * 7 if whole else 3 * 7 + 1)


@pytest.mark.parametrize("whole", [False, True])
def test_gradient_checkpointing_changes_no_gradient(tiny_llama: Path, whole: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        options = OPTIONS.model_copy(update={"gradient_checkpointing": checkpointing})
        student = trained(create_student(str(tiny_llama), options, full_model=whole)).train()
        ids, mask = torch.tensor([[5, 17, 300, 42], [9, 8, 7, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
        if whole:
            vectors, logits = student(ids, mask, ids, mask)
            loss = vectors.sum() + logits.logsumexp(1).sum()
        else:
            loss = student(ids, mask).sum()
        loss.backward()
        gradients.append({name: p.grad for name, p in student.named_parameters() if p.requires_grad})
    plain, again = gradients
    for name, gradient in plain.items():
        if gradient is None:  # the site's B without the decoder path
            assert again[name] is None
        else:
            assert torch.allclose(gradient, again[name], atol=1e-6), name
    assert sum(gradient is not None and bool(gradient.any()) for gradient in plain.values()) > 10


def test_a_name_that_stands_twice_in_a_block_needs_its_path(tmp_path: Path) -> None:
    path = str(write_family(tmp_path, "GPT2"))
    with pytest.raises(ConfigError, match=r"'c_proj': several of the linear layers .* attn.c_proj, .* mlp.c_proj"):
        create_student(path, StudentConfig(layer=1, module="c_proj"))
    student = create_student(path, StudentConfig(layer=1, module="mlp.c_proj", rank=3))
    assert student.encoder_weight.shape == (3, 4 * HIDDEN)


VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
LINEAR_ATTENTION = {f"linear_{kind}": 2 for kind in ("num_key_heads", "num_value_heads")}
LINEAR_ATTENTION |= {f"linear_{kind}": 8 for kind in ("key_head_dim", "value_head_dim")}
MULTIMODAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Gemma3": ({"sliding_window": 128}, {**VISION, "image_size": 28, "patch_size": 14}),
    "Gemma4": ({"sliding_window": 128, "global_head_dim": 8, "hidden_size_per_layer_input": 0}, VISION),
    "Qwen3_5": (LINEAR_ATTENTION, {"hidden_size": 16, "depth": 1, "num_heads": 2, "out_hidden_size": HIDDEN}),
    "Mistral3": ({"model_type": "mistral"}, {**VISION, "model_type": "pixtral", "head_dim": 8, "image_size": 28}),
}


def write_multimodal(path: Path, family: str) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    text, vision = MULTIMODAL[family]
    config = getattr(transformers, f"{family}Config")(text_config=llm_sizes(**text), vision_config=vision)
    model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    write_model(path, model)
    return model


@pytest.mark.parametrize("family", MULTIMODAL)
def test_the_language_part_of_a_multimodal_model_becomes_the_student(tmp_path: Path, family: str) -> None:
    model = write_multimodal(tmp_path, family)
    student = create_student(str(tmp_path), OPTIONS.model_copy(update={"layer": 3, "attention": "causal"})).eval()
    ids = torch.tensor([[5, 17, 300, 42]])
    with torch.inference_mode():
        states = student.hidden_states(ids, torch.ones_like(ids))
        below = model(input_ids=ids, output_hidden_states=True).hidden_states[3]
        expected = student.model.get_base_model().model.layers[3].input_layernorm(below)
    assert torch.allclose(states, expected, atol=1e-5)
    assert not [name for name, _ in student.named_parameters() if "vision" in name]


def test_a_block_without_the_module_names_the_next_one_that_has_it(tmp_path: Path) -> None:
    write_multimodal(tmp_path, "Qwen3_5")
    with pytest.raises(ConfigError, match=r"block 1, which are linear_attn.*; the next block with exactly one is 3$"):
        create_student(str(tmp_path), StudentConfig(layer=1))


@pytest.mark.parametrize(("family", "kinds"), [("Mistral", None), ("Gemma3", ["full_attention", "sliding_attention"])])
def test_a_window_shorter_than_the_texts_is_refused(tmp_path: Path, family: str, kinds: list[str] | None) -> None:
    path = write_family(tmp_path, family)
    options = {"layer_types": kinds * 2} if kinds else {}
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **options, "sliding_window": 64}))
    block = 1 if kinds else 0
    message = (
        rf"student.max_length = 128: block {block} of .* windows of 64 tokens; set student.max_length = 64 or less"
    )
    with pytest.raises(ConfigError, match=message):
        create_student(str(path), OPTIONS)
    create_student(str(path), OPTIONS.model_copy(update={"max_length": 64}))
    create_student(str(path), OPTIONS.model_copy(update={"layer": block}))  # nothing below the site has a window


def test_blocks_that_share_keys_are_cut_where_they_begin() -> None:
    for layer, shared in ((1, 0), (2, 1), (3, 2)):
        config = transformers.Gemma4TextConfig(**llm_sizes(num_kv_shared_layers=2))
        cut_blocks(config, layer + 1)
        assert config.num_kv_shared_layers == shared


def test_what_is_no_llm_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelSourceError, match="cannot be loaded as a decoder-only LLM"):
        create_student(str(tmp_path), OPTIONS)


@pytest.mark.parametrize("damage", ["absent", "of another rank"])
def test_an_adapter_that_does_not_fit_is_a_training_error(tiny_llama: Path, tmp_path: Path, damage: str) -> None:
    adapter = tmp_path / "adapter"
    if damage == "of another rank":
        create_student(str(tiny_llama), OPTIONS).model.save_pretrained(adapter)
        config = adapter / "adapter_config.json"
        config.write_text(config.read_text().replace('"r": 4', '"r": 5'))
    absent, other_rank = "model.safetensors: cannot be read", "config.json: r is 5, and the run's options make it 4"
    message = absent if damage == "absent" else other_rank
    with pytest.raises(TrainingError, match=f"adapter_{message}") as raised:
        load_student(str(tiny_llama), adapter, OPTIONS)
    assert "\n" not in str(raised.value)


def test_the_tokenizer_pads_on_the_right_and_has_something_to_pad_with(tmp_path: Path) -> None:
    tokenizer = pretrained_tokenizer()
    tokenizer.pad_token = None
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.padding_side == "right"
    assert loaded.pad_token == loaded.eos_token


def test_a_missing_tokenizer_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match="cannot be loaded as a tokenizer"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("special", "expected"),
    [({"bos_token": "<s>", "eos_token": "</s>"}, 1), ({"eos_token": "</s>"}, 2), ({"pad_token": "<pad>"}, 0), ({}, 0)],
)
def test_what_stands_for_an_empty_text(special: dict[str, str], expected: int) -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=pretrained_tokenizer()._tokenizer, **special)
    assert empty_token_id(tokenizer) == expected
