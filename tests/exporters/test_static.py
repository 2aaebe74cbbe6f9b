"""A static student from its run to its matcher: one table, the promises of every matcher, exact explanations."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import write_tiny_run
from tokenizers import Tokenizer, models

from flipkd_sdk.artifact.manifest import TOKEN_TABLE, read_manifest
from flipkd_sdk.errors import TrainingError
from flipkd_sdk.exporters import export
from flipkd_sdk.exporters.export import ExportOptions
from flipkd_sdk.exporters.graph.nodes import constant, linear_nodes, token_lookup
from flipkd_sdk.exporters.vocabulary import trimming
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.training.evaluate_models import encode_with
from flipkd_sdk.training.run import train
from flipkd_sdk.training.run_directory import read_run, trained_student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRECISIONS = ("fp32", "int8", "int4")
STATIC = {"preset": "static", "student": {"layer": 0}, "alignment": {"epochs": 2, "fewest_texts": 0}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_run(tmp_path_factory.mktemp("static") / "run", **STATIC)


@pytest.fixture(scope="module")
def directory(run: Path, tmp_path_factory: pytest.TempPathFactory, wide: ExportOptions) -> Path:
    out = tmp_path_factory.mktemp("static") / "matcher"
    export.export(run, out, ExportOptions(variants=PRECISIONS, limits=wide.limits))
    return out


@pytest.fixture(scope="module", params=PRECISIONS)
def matcher(directory: Path, request: pytest.FixtureRequest) -> Iterator[Matcher]:
    with Matcher.load(directory, precision=request.param, device="cpu", on_truncate="ignore") as opened:
        yield opened


def test_the_student_learns_from_its_teacher(run: Path) -> None:
    with (run / "metrics.jsonl").open() as file:
        losses = [line for line in file if '"alignment"' in line]
    result = read_run(run).result
    assert losses
    assert result.validation["validation_cosine"] > 0.5
    assert result.trainable_parameters > 0


def test_the_matcher_is_one_table_of_the_kept_tokens(directory: Path) -> None:
    manifest, graph = read_manifest(directory), ir.load(directory / "model_fp32.onnx")
    assert manifest.encoder.module == TOKEN_TABLE
    assert linear_nodes(graph) == []
    assert manifest.trimmed_vocabulary is not None
    table = constant(token_lookup(graph).inputs[0])
    assert table.shape == (manifest.trimmed_vocabulary.tokens, manifest.encoder.dimension)
    assert len(table) == Tokenizer.from_file(str(directory / "tokenizer.json")).get_vocab_size()


def test_the_matcher_returns_the_students_vectors(run: Path, directory: Path) -> None:
    finished = read_run(run)
    student, tokenizer = trained_student(finished)
    with Matcher.load(directory, precision="fp32", device="cpu") as opened:
        vectors = opened.encode(finished.texts())
    # Training texts keep all of their tokens.
    assert np.abs(vectors - encode_with(student, tokenizer, finished.texts())).max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=2, max_size=12))
def test_a_pair_has_the_same_score_alone_and_in_any_batch(matcher: Matcher, texts: list[str]) -> None:
    pairs = list(zip(texts, texts[::-1], strict=True))
    alone = np.array([matcher.score(a, b) for a, b in pairs])
    assert np.abs(matcher.score_pairs(pairs) - alone).max() <= 1e-6


def test_the_order_of_the_words_does_not_matter_and_their_choice_does(matcher: Matcher) -> None:
    one, turned, other = matcher.encode(["how do I reset my card", "how my card I do reset", "how do I cancel my loan"])
    assert np.abs(one - turned).max() < 1e-6
    assert one @ other < 0.999


@pytest.mark.parametrize("text", ["", "   ", "\x00", "𓀀𓀁", "\ufffd" * 50, "a" * 5000])
def test_texts_without_a_known_word_have_a_finite_vector(matcher: Matcher, text: str) -> None:
    vectors = matcher.encode([text, "reset my card"])
    assert np.isfinite(vectors).all()
    assert 0.0 <= matcher.score(text, "reset my card") <= 1.0


def test_an_explanation_adds_up_to_the_cosine(matcher: Matcher) -> None:
    explanation = matcher.explain("how do I reset my card", "I want to cancel my loan today")
    assert explanation.contributions.sum() + explanation.baseline == pytest.approx(explanation.cosine, abs=1e-6)


def test_a_word_contributes_the_same_wherever_it_is(directory: Path) -> None:
    """Exact for a static student: no token sees its neighbours."""
    with Matcher.load(directory, precision="fp32", device="cpu") as opened:
        one = opened.explain("how do I reset my card", "my loan")
        other = opened.explain("how my card I reset do", "my loan")
    assert one.words_a[-1].text == other.words_a[2].text == "card"
    assert one.contributions[-1] == pytest.approx(other.contributions[2], abs=1e-6)


def test_a_vocabulary_of_no_extra_tokens_still_scores_any_text(run: Path, tmp_path: Path, wide: ExportOptions) -> None:
    options = ExportOptions(variants=("fp32",), limits=wide.limits, vocabulary_size=0)
    manifest = export.export(run, tmp_path / "m", options)
    assert manifest.trimmed_vocabulary is not None
    assert manifest.trimmed_vocabulary.tokens < manifest.trimmed_vocabulary.base_tokens
    with Matcher.load(tmp_path / "m", device="cpu") as opened:
        assert np.isfinite(opened.encode(["zebra crossing 如何"])).all()


def test_a_tokenizer_that_cannot_be_trimmed_is_kept_whole_with_a_warning(
    run: Path, tmp_path: Path, wide: ExportOptions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, words = trimming.trim, Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))  # noqa: S106
    monkeypatch.setattr(trimming, "trim", lambda _, texts, **options: real(words, texts, **options))
    manifest = export.export(run, tmp_path / "m", ExportOptions(variants=("fp32",), limits=wide.limits))
    assert manifest.trimmed_vocabulary is None
    assert any("keeps the whole vocabulary" in record.getMessage() for record in caplog.records)


def test_a_table_that_is_not_finite_is_refused(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.copytree(run.with_name("run_inputs"), tmp_path / "run_inputs")
    file = copy / "adapter" / "static.safetensors"
    weights = load_file(file)
    weights["correction"][1, 0] = float("nan")
    save_file(weights, file)
    with pytest.raises(TrainingError, match="correction contains NaN or infinite values"):
        export.export(copy, tmp_path / "m")


def test_a_finished_run_resumes_to_its_result(run: Path) -> None:
    finished = read_run(run)
    assert train(finished.config, run, resume=True) == finished.result


def test_the_same_seed_trains_the_same_table(run: Path, tmp_path: Path) -> None:
    again = write_tiny_run(tmp_path / "run", **STATIC)
    texts = read_run(run).texts()
    first, second = (encode_with(*trained_student(read_run(path)), texts) for path in (run, again))
    assert np.array_equal(first, second)


def test_a_pair_head_of_a_static_student_scores_as_in_torch(tmp_path: Path, wide: ExportOptions) -> None:
    options = STATIC | {"head": {"enabled": True, "epochs": 1, "texts": 60, "teacher_pairs": 40, "sibling_pairs": 10}}
    run = write_tiny_run(tmp_path / "run", **options)
    manifest = export.export(run, tmp_path / "m", ExportOptions(variants=("fp32", "int8"), limits=wide.limits))
    assert manifest.head is not None
    with Matcher.load(tmp_path / "m", precision="fp32", device="cpu") as opened:
        alone = [opened.score(a, b) for a, b in PAIRS]
        assert np.abs(opened.score_pairs(PAIRS) - alone).max() <= 1e-6


PAIRS = [("how do I reset my card", "I want to reset my card"), ("cancel my loan", "find my statement abroad")]
