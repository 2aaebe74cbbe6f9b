from __future__ import annotations

import copy
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
import torch
from families import BATCHES, Exported
from tiny import tiny_tokenizer
from tokenizers import Tokenizer, processors

from flipkd_sdk.artifact.manifest import Manifest, read_manifest
from flipkd_sdk.exporters import export
from flipkd_sdk.exporters.directory.model_card import model_card
from flipkd_sdk.exporters.encoders.sources import domain_texts, student_source
from flipkd_sdk.exporters.export import ExportOptions
from flipkd_sdk.exporters.vocabulary.trimming import keep_rows, trim_vocabulary
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.training.models.student import load_tokenizer
from flipkd_sdk.training.run_directory import FinishedRun, read_run
from flipkd_sdk.training.tokens import empty_token_id

if TYPE_CHECKING:
    from pathlib import Path

    from flipkd_sdk.pairs import Pairs


def split(run: FinishedRun, name: str) -> Pairs:
    pairs = run.split(name)
    assert pairs is not None
    return pairs


@pytest.fixture(scope="module")
def trimmed(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory, wide: ExportOptions) -> Path:
    """Exported from the tiny run with the tokens of its train texts alone; tests that change it must copy it."""
    out = tmp_path_factory.mktemp("trimmed") / "matcher"
    options = ExportOptions(variants=("int8", "int4", "fp32"), limits=wide.limits, vocabulary_size=0)
    assert export.export(tiny_run, out, options) == read_manifest(out)
    return out


@pytest.fixture(scope="module")
def manifest(trimmed: Path) -> Manifest:
    return read_manifest(trimmed)


def test_vectors_stay_when_rows_and_ids_move_together(family: Exported) -> None:
    path = copy.deepcopy(family.path)
    base_rows = path.model.get_input_embeddings().weight.shape[0]
    kept = np.random.default_rng(0).permutation(256)
    assert keep_rows(path, kept) == (base_rows, path.model.config.hidden_size)
    assert path.model.get_input_embeddings().weight.shape[0] == path.model.config.vocab_size == 256 < base_rows
    new_id = np.argsort(kept)
    for batch in BATCHES:
        ids, mask = (torch.from_numpy(array) for array in batch.values())
        with torch.no_grad():
            moved = path(torch.from_numpy(new_id[ids.numpy()]), mask)
            assert float((moved - family.path(ids, mask)).abs().max()) <= 1e-6


def test_the_files_have_the_rows_that_the_manifest_says(trimmed: Path, manifest: Manifest, every_variant: Path) -> None:
    report = manifest.trimmed_vocabulary
    assert report is not None
    assert 256 <= report.tokens < report.base_tokens == tiny_tokenizer().get_vocab_size()
    assert Tokenizer.from_file(str(trimmed / "tokenizer.json")).get_vocab_size() == report.tokens
    types = {"fp32": ir.DataType.FLOAT, "int8": ir.DataType.INT8, "int4": ir.DataType.INT4}
    for precision, numbers in types.items():
        model = ir.load(trimmed / f"model_{precision}.onnx")
        tables = [value for value in model.graph.initializers.values() if value.shape == (report.tokens, report.width)]
        assert [table.dtype for table in tables] == [numbers]
        whole = read_manifest(every_variant).variants[precision]
        assert manifest.variants[precision].bytes < whole.bytes
    assert manifest.variants["fp32"].drift.max_cosine_change <= 1e-5


def test_train_texts_have_the_vectors_that_they_had(trimmed: Path, exported_matcher: Path, tiny_run: Path) -> None:
    train = split(read_run(tiny_run), "train").texts
    vectors = []
    for directory in (trimmed, exported_matcher):
        with Matcher.load(directory, precision="fp32", device="cpu") as matcher:
            vectors.append(matcher.encode([*train, ""]))
    assert np.abs(vectors[0] - vectors[1]).max() <= 1e-6


def test_other_texts_move_as_the_manifest_says(
    trimmed: Path, manifest: Manifest, exported_matcher: Path, tiny_run: Path
) -> None:
    report = manifest.trimmed_vocabulary
    assert report is not None
    dev = split(read_run(tiny_run), "dev")
    counts, cosines = [], []
    for directory in (trimmed, exported_matcher):
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        counts.append(sum(len(tokenizer.encode(text).ids) for text in dev.texts))
        with Matcher.load(directory, precision="fp32", device="cpu", on_truncate="ignore") as matcher:
            cosines.append(np.sum(matcher.encode(dev.a) * matcher.encode(dev.b), axis=1))
    assert report.growth == counts[0] / counts[1]
    assert report.max_cosine_change == pytest.approx(np.abs(cosines[0] - cosines[1]).max(), abs=1e-5)
    assert 0.0 < report.unchanged <= 1.0
    assert f"{report.tokens} of {report.base_tokens} tokens are left" in model_card(manifest).replace("\n", " ")
    assert "The vocabulary was trimmed" in (trimmed / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_any_text_scores(trimmed: Path, precision: str) -> None:
    with Matcher.load(trimmed, precision=precision, device="cpu", on_truncate="ignore") as matcher:
        for text in ("", "如何重置我的密码？", "\x00🎉", "<s> </s>", "zzz " * 99):
            assert 0.0 <= matcher.score(text, "reset my card") <= 1.0


def test_tokens_are_kept_for_train_and_unlabelled_texts_alone(
    tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = read_run(tiny_run)
    train, dev, test = (split(run, name) for name in ("train", "dev", "test"))
    assert domain_texts(run) == list(train.texts)
    file = tmp_path / "texts.txt"
    file.write_text(f"unlabelled\n{train.a[0]}\n{dev.a[0]}\n{test.b[0]}\n", encoding="utf-8")
    data = run.config.data.model_copy(update={"texts": file})
    run = FinishedRun(run.directory, run.config.model_copy(update={"data": data}), run.result)
    assert domain_texts(run) == [*train.texts, "unlabelled"]
    assert not caplog.records
    file.unlink()
    with caplog.at_level(logging.WARNING, logger="flipkd_sdk"):
        assert domain_texts(run) == list(train.texts)
    assert caplog.messages == [f"{file}: missing, the vocabulary is trimmed to the texts of the train pairs only"]


def test_the_tokenizers_special_tokens_have_their_new_ids(tiny_run: Path, llama: Exported) -> None:
    run = read_run(tiny_run)
    tokenizer = load_tokenizer(run.config.student.source)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer(["to leave truncation"], truncation=True, max_length=2, padding=True)
    dev = split(run, "dev")
    path = copy.deepcopy(llama.path)
    cosines = np.linspace(0, 1, len(dev), dtype=np.float32)
    source = replace(student_source(run), path=path, tokenizer=tokenizer, cosines=cosines)
    student = trim_vocabulary(source, size=0)
    smaller = student.tokenizer
    content = json.loads(smaller.backend_tokenizer.to_str())
    assert content["model"]["vocab"].get("<s>") == smaller.bos_token_id == empty_token_id(smaller)
    assert smaller("a")["input_ids"][0] == smaller.bos_token_id
    assert smaller.pad_token == tokenizer.pad_token
    assert len(smaller) == student.report.tokens == path.model.config.vocab_size
