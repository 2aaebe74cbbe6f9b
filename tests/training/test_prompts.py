from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from tiny_models import pretrained_tokenizer, tiny_config, tiny_pairs
from tiny_students import FAMILIES, OPTIONS, trained, write_family
from tokenizers.decoders import ByteLevel
from tokenizers.processors import TemplateProcessing

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.pairs import Pairs, write_pairs
from flipkd_sdk.training import evaluate_models
from flipkd_sdk.training.config.schema import PromptConfig
from flipkd_sdk.training.data.splits import read_data
from flipkd_sdk.training.evaluate_models import evaluate_answers
from flipkd_sdk.training.losses import label_lm
from flipkd_sdk.training.models.student import create_student, load_student, load_tokenizer
from flipkd_sdk.training.prompts import prompt_pairs, yes_probabilities
from flipkd_sdk.training.run import train
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from pathlib import Path

TOKENIZER = pretrained_tokenizer()
CONFIG = PromptConfig(template="A: {a}\nB: {b}\nsame?")


def text_of(ids: list[int]) -> str:
    """What the tokens spell; the toy tokenizer has no decoder of its own."""
    return ByteLevel().decode(TOKENIZER.convert_ids_to_tokens(ids))


def one(a: str, b: str) -> Pairs:
    return Pairs((a,), (b,), np.array([1], np.int8))


def asked(pairs: Pairs, config: PromptConfig = CONFIG, *, max_length: int = 100) -> list[str]:
    prompts = prompt_pairs(TOKENIZER, pairs, config, max_length=max_length)
    return [text_of(ids) for ids in prompts.tokens.token_ids]


def test_the_prompt_ends_where_the_words_begin_to_differ() -> None:
    no, yes = (TOKENIZER(word)["input_ids"] for word in (" no", " yes"))
    prompts = prompt_pairs(TOKENIZER, one("{b} 50%", "{}"), CONFIG, max_length=100)
    (ids,) = prompts.tokens.token_ids
    common = next(i for i, (x, y) in enumerate(zip(no, yes, strict=False)) if x != y)
    assert text_of(ids) == "A: {b} 50%\nB: {}\nsame?" + text_of(no[:common])
    assert prompts.words == (no[common], yes[common])


def test_a_long_text_is_cut_as_the_encoder_cuts_it_and_the_question_stays() -> None:
    text = "Please tell me how a payment that was declined twice can be tried again"
    (prompt,) = asked(one(text, "no"), max_length=5)
    kept = text_of(TOKENIZER(text)["input_ids"][:5])
    assert prompt.startswith(f"A: {kept}\nB: no\nsame?")


def test_words_that_are_one_word_to_the_student_are_refused() -> None:
    for yes, no in ((" yes", " yes"), (" yes", ""), ("", "")):
        with pytest.raises(ConfigError, match=r"prompt.yes = .* and prompt.no = .* begin with the same tokens"):
            prompt_pairs(TOKENIZER, one("a", "b"), PromptConfig(yes=yes, no=no), max_length=9)


def test_a_closing_token_is_not_part_of_the_question() -> None:
    closing = pretrained_tokenizer()
    closing._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    (ids,) = prompt_pairs(closing, one("a", "b"), CONFIG, max_length=9).tokens.token_ids
    assert ids[0] == 1
    assert 2 not in ids


@pytest.mark.parametrize("template", ["{a}", "{a} {b} {c}", "{a} {b} {", "{a} {} {b}", "{a.x} {b}", "a b"])
def test_a_template_without_both_texts_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"\{a\}"):
        PromptConfig(template=template)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_the_whole_llm_does(tmp_path: Path, family: str) -> None:
    path = str(write_family(tmp_path / "llm", family))
    options = OPTIONS.model_copy(update={"module": FAMILIES[family][0]})
    student = trained(create_student(path, options, full_model=True))
    student.model.save_pretrained(tmp_path / "adapter")
    llm = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    whole = PeftModel.from_pretrained(llm, str(tmp_path / "adapter")).eval()
    pairs = tiny_pairs(6)
    prompts = prompt_pairs(TOKENIZER, pairs, CONFIG, max_length=100)
    scores = yes_probabilities(student, prompts)
    for ids, score in zip(prompts.tokens.token_ids, scores, strict=True):
        with torch.inference_mode():
            logits = whole(input_ids=torch.tensor([ids])).logits[0, -1]
        no, yes = (float(logits[word]) for word in prompts.words)
        assert score == pytest.approx(1 / (1 + np.exp(no - yes)), abs=1e-5)
    # The encoder path of the whole LLM is that of the LLM cut at the site.
    cut = load_student(path, tmp_path / "adapter", options)
    ids, mask = torch.tensor([[5, 17, 300, 42]]), torch.ones(1, 4, dtype=torch.int64)
    with torch.inference_mode():
        assert torch.allclose(cut(ids, mask), student(ids, mask), atol=1e-6)
        vectors, logits = student(ids, mask, ids, mask)
        assert torch.equal(vectors, student(ids, mask))
        assert torch.equal(logits, student.next_token_logits(ids, mask))


def told_pairs(count: int, seed: int) -> Pairs:
    """Pairs whose second text ends with a word that gives the label away."""
    pairs = tiny_pairs(count, seed)
    told = (f"{b} {'really' if label else 'never'}" for b, label in zip(pairs.b, pairs.label, strict=True))
    return Pairs(pairs.a, tuple(told), pairs.label)


def test_label_lm_teaches_the_whole_llm_to_answer(tiny_llama: Path) -> None:
    torch.manual_seed(0)
    student = create_student(str(tiny_llama), OPTIONS, full_model=True)
    train_pairs, test_pairs = told_pairs(32, 0), told_pairs(32, 1)
    prompts, unseen = (prompt_pairs(TOKENIZER, pairs, CONFIG, max_length=100) for pairs in (train_pairs, test_pairs))
    batch = prompts.batch(range(32))
    words = torch.tensor(prompts.words)[torch.from_numpy(train_pairs.label).long()]
    above = [weight for name, weight in student.named_parameters() if ".layers.3." in name and "lora_B" in name]
    optimizer = torch.optim.Adam([weight for weight in student.parameters() if weight.requires_grad], lr=1e-2)
    for _ in range(80):
        loss = label_lm(student.next_token_logits(batch["prompt_ids"], batch["prompt_mask"]), words)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert above
    assert all(weight.abs().max() > 0 for weight in above)
    assert average_precision(yes_probabilities(student, unseen), test_pairs.label) > 0.95


def test_the_decoder_path_is_trained_and_reported_beside_the_encoder_path(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    tiny_config(tmp_path / "inputs")
    for seed, name in enumerate(("train", "dev", "test")):
        write_pairs(told_pairs(48, seed), tmp_path / "inputs" / f"{name}.csv")
    changes: dict[str, Any] = {"loss": {"label_lm": 1.0}, "labels": {"epochs": 4, "learning_rate": 1e-2}}
    config = tiny_config(tmp_path / "inputs", prompt={"template": CONFIG.template}, seed=1, **changes)
    result = train(config, tmp_path / "run")
    run = read_run(tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [record["label_lm"] for record in records if "label_lm" in record]
    assert losses[-1] < losses[0] - 0.3
    assert list(result.measures) == ["teacher", "student", "student's answer"]
    student = load_student(config.student.source, run.adapter, config.student, full_model=True)
    data = read_data(config.data, seed=config.seed)
    again = evaluate_answers(config, student, load_tokenizer(config.student.source), data)
    assert again.measures == result.measures["student's answer"]
    assert "student&#x27;s answer" in (tmp_path / "run" / "report.html").read_text()


def test_an_answer_that_says_nothing_does_not_cost_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inputs").mkdir()
    config = tiny_config(tmp_path / "inputs", loss={"label_lm": 1.0}, labels={"epochs": 0}, alignment={"epochs": 0})
    monkeypatch.setattr(evaluate_models, "yes_probabilities", lambda student, prompts: np.full(24, 0.5, np.float32))
    result = train(config, tmp_path / "run")
    assert list(result.measures) == ["teacher", "student"]
    assert "its decoder path, is left out of the report: on these pairs" in caplog.text
