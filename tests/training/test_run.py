from __future__ import annotations

import json
import logging
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import TEXTS
from tiny_models import TEACHER_DIMENSION, tiny_config, tiny_pairs

from flipkd_sdk.artifact.manifest import sha256_of
from flipkd_sdk.errors import ConfigError, FlipKDError, InvalidPairsError, OutputExistsError, TrainingError
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.evaluation.evaluate import evaluate_retrieval
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.evaluation.retrieval import read_retrieval_set
from flipkd_sdk.pairs import Pairs, fold_numbers, write_pairs
from flipkd_sdk.training import distributed, stages
from flipkd_sdk.training import run as run_module
from flipkd_sdk.training.config.load import validate_config
from flipkd_sdk.training.data.validation import Validation
from flipkd_sdk.training.evaluate_models import encode_with
from flipkd_sdk.training.loop.callback import StageCallback
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.student import load_student, load_tokenizer
from flipkd_sdk.training.models.teacher import load_teacher
from flipkd_sdk.training.run import train
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from flipkd_sdk.evaluation.encoders import Encode
    from flipkd_sdk.training.data.corpus import Corpus

CONTENT = {"config.json", "splits", "adapter", "metrics.jsonl", "report.html", "result.json"}


@pytest.fixture
def inputs(tiny_run: Path, tmp_path: Path) -> Path:
    """The models and data of a tiny run, to be changed at will."""
    path = tmp_path / "inputs"
    shutil.copytree(tiny_run.with_name(f"{tiny_run.name}_inputs"), path)
    return path


def test_a_run_directory_is_complete(tiny_run: Path) -> None:
    assert {path.name for path in tiny_run.iterdir()} == CONTENT
    result = read_run(tiny_run).result
    assert result.measures.keys() == {"teacher", "student"}
    assert all(splits.keys() == {"dev", "test"} for splits in result.measures.values())
    assert result.calibration.size == 24
    assert result.texts == 96
    weights = load_file(tiny_run / "adapter" / "adapter_model.safetensors")
    assert result.trainable_parameters == sum(weight.numel() for weight in weights.values())
    stages = [json.loads(line)["stage"] for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(stages)) == ["alignment", "labels"]


def test_the_saved_student_has_the_measures_of_the_result(tiny_run: Path) -> None:
    run = read_run(tiny_run)
    student = load_student(run.config.student.source, run.adapter, run.config.student)
    tokenizer = load_tokenizer(run.config.student.source)
    for name in ("dev", "test"):
        split = run.split(name)
        assert split is not None
        cosines = encoder_cosines(lambda texts: encode_with(student, tokenizer, texts), split)
        assert average_precision(cosines, split.label) == run.result.measures["student"][name]["average_precision"]


def test_the_student_has_learnt_something(tiny_run: Path) -> None:
    measures = read_run(tiny_run).result.measures
    assert measures["teacher"]["test"]["average_precision"] > 0.9
    assert measures["student"]["test"]["average_precision"] > 0.8


def adapter_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def test_a_seed_gives_the_same_run_again_to_the_last_bit(tiny_run: Path, tmp_path: Path) -> None:
    first = read_run(tiny_run)
    for name, seed in (("same", first.config.seed), ("other", 4)):
        torch.manual_seed(len(name))
        train(first.config.model_copy(update={"seed": seed}), tmp_path / name)
    weights, same, other = (adapter_weights(path) for path in (tiny_run, tmp_path / "same", tmp_path / "other"))
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert not all(torch.equal(weights[name], other[name]) for name in weights)
    again = read_run(tmp_path / "same").result
    assert again.model_dump(exclude={"seconds"}) == first.result.model_dump(exclude={"seconds"})


def test_result_json_is_written_last(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module, "write_report", fail)
    with pytest.raises(OSError, match="No space left"):
        train(tiny_config(inputs), tmp_path / "run")
    left = CONTENT - {"report.html", "result.json"} | {"checkpoints"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == left
    with pytest.raises(TrainingError, match="did not finish"):
        read_run(tmp_path / "run")


def test_an_existing_file_is_refused_before_anything_is_read(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(OutputExistsError):
        train(tiny_config(inputs, data={"pairs": "absent.csv"}), tmp_path / "run")


def test_an_earlier_run_is_kept_unless_overwriting_is_asked_for(inputs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").touch()
    with pytest.raises(OutputExistsError, match="exists already"):
        train(tiny_config(inputs), run)
    assert os.listdir(run) == ["config.json"]  # noqa: PTH208
    train(tiny_config(inputs), run, overwrite=True)
    assert read_run(run).result.texts == 96


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"data": {"pairs": "absent.csv"}}, InvalidPairsError),
        ({"student": {"source": "./absent"}}, FlipKDError),
        ({"teacher": {"source": "./absent"}}, FlipKDError),
        ({"student": {"source": "package:toy-absent"}}, FlipKDError),
        ({"student": {"layer": 9}}, ConfigError),
        ({"student": {"module": "absent"}}, ConfigError),
    ],
)
def test_missing_inputs_are_refused_before_an_earlier_run_is_removed(
    inputs: Path, tmp_path: Path, changes: dict[str, Any], kind: type[FlipKDError]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("kept")
    with pytest.raises(kind):
        train(tiny_config(inputs, **changes), run, overwrite=True)
    assert (run / "config.json").read_text() == "kept"


def test_texts_without_a_token_do_not_spoil_a_run(inputs: Path, tmp_path: Path) -> None:
    pairs = tiny_pairs(40, 5)
    empty = Pairs((*pairs.a, "", "   ", ""), (*pairs.b, "   ", "how do I", ""), np.append(pairs.label, [1, 0, 1]))
    write_pairs(empty, inputs / "train.csv")
    train(tiny_config(inputs), tmp_path / "run")
    assert all(torch.isfinite(weight).all() for weight in adapter_weights(tmp_path / "run").values())
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for record in records for value in record.values() if not isinstance(value, str))


def test_vectors_are_as_long_as_the_teachers_unless_a_length_is_given(inputs: Path, tmp_path: Path) -> None:
    off = {"epochs": 0}
    config = tiny_config(inputs, student={"site_rank": None}, alignment=off, labels=off)
    train(config, tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.config.student.site_rank == TEACHER_DIMENSION != config.student.rank
    again = train(config, tmp_path / "run", resume=True)
    assert again == run.result
    none = {"mcl": 0.0, "similarity": 0.0, "alignment": 0.0, "cosent": 1.0}
    alone = tiny_config(inputs, student={"site_rank": None}, teacher={"kind": "none"}, loss=none, alignment=off)
    train(alone, tmp_path / "alone")
    assert read_run(tmp_path / "alone").config.student.site_rank == config.student.rank


def test_a_tuned_teacher_is_reported_beside_the_raw_one(tiny_run: Path, inputs: Path, tmp_path: Path) -> None:
    config = tiny_config(inputs, teacher={"epochs": 1, "learning_rate": 1e-3}, student={"site_rank": TEACHER_DIMENSION})
    result = train(config, tmp_path / "run")
    assert list(result.measures) == ["teacher as is", "teacher", "student"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == CONTENT | {"teacher"}
    assert result.teacher.source == config.teacher.source
    raw = read_run(tiny_run).result
    assert result.teacher.revision == sha256_of(tmp_path / "run" / "teacher" / "model.safetensors")
    assert result.measures["teacher as is"] == raw.measures["teacher"]


def test_the_noise_filter_is_counted_and_shown(inputs: Path, tmp_path: Path) -> None:
    pairs = tiny_pairs(40, 5)
    nasty = Pairs((*pairs.a, "<script>alert(1)</script>"), (*pairs.b, "0 0 0"), np.append(pairs.label, 1))
    write_pairs(nasty, inputs / "train.csv")
    filtering = {"positive_quantile": 0.05, "negative_quantile": 0.9}
    result = train(tiny_config(inputs, noise_filter=filtering), tmp_path / "run")
    assert (result.dropped_positives, result.dropped_negatives) == (1, 2)
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in report
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in report


def test_unlabelled_texts_join_and_cut_texts_are_counted(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (inputs / "texts.txt").write_text("\n".join(filter(str.strip, TEXTS)), encoding="utf-8")
    limits = {"student": {"max_length": 40}, "teacher": {"max_length": 44}}
    config = tiny_config(inputs, data={"texts": inputs / "texts.txt"}, **limits)
    with caplog.at_level(logging.WARNING, logger="flipkd_sdk"):
        result = train(config, tmp_path / "run")
    assert result.texts == 96 + sum(bool(text.strip()) for text in TEXTS)
    assert result.truncated_texts == 1
    for limit in ("student.max_length = 40", "teacher.max_length = 44"):
        assert f"1 of {result.texts} texts are longer than {limit} tokens" in caplog.text


def test_the_student_is_compared_with_its_teacher_on_validation_texts(inputs: Path, tmp_path: Path) -> None:
    (inputs / "texts.txt").write_text("\n".join(f"unlabelled text {n}" for n in range(40)), encoding="utf-8")
    config = tiny_config(inputs, data={"texts": inputs / "texts.txt", "validation_share": 0.25})
    result = train(config, tmp_path / "run")
    assert (result.texts, result.validation_texts) == (96 + 30, 48 + 10)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    measured = {(record["stage"], record["epoch"]): record for record in records if "validation_cosine" in record}
    assert measured.keys() == {(stage, epoch) for stage in ("alignment", "labels") for epoch in (0.0, 1.0)}
    assert result.validation.keys() == {"validation_cosine", "validation_error", "validation_overlap"}
    # The student is that of one of the epochs of the last stage.
    assert any(
        result.validation == pytest.approx({name: measured["labels", epoch][name] for name in result.validation})
        for epoch in (0.0, 1.0)
    )
    assert "58 validation texts, which no stage learned" in (tmp_path / "run" / "report.html").read_text()
    assert "average_precision" in next(iter(measured.values()))
    again = train(tiny_config(inputs, data={"validation_share": 0.0}), tmp_path / "without")
    assert (again.validation_texts, again.validation) == (0, {})


def test_altered_copies_join_the_alignment_and_nothing_else(inputs: Path, tmp_path: Path) -> None:
    config = tiny_config(inputs, alignment={"fewest_texts": 150})
    result = train(config, tmp_path / "run")
    assert (result.texts, result.altered_copies) == (96, 54)
    assert "54 altered copies of them" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    last = {record["stage"]: record["step"] for record in records}
    assert last["alignment"] == -(-150 // config.alignment.batch_size)
    assert last["labels"] == -(-48 // config.labels.batch_size)


def test_every_measure_has_an_interval(tiny_run: Path) -> None:
    result = read_run(tiny_run).result
    assert result.intervals.keys() == result.measures.keys()
    for system, splits in result.measures.items():
        for split, measures in splits.items():
            assert result.intervals[system][split].keys() == measures.keys()
            for name in ("average_precision", "spearman", "accuracy"):
                low, high = result.intervals[system][split][name]
                assert low <= measures[name] <= high
                assert low < high or measures[name] == 1.0
    assert (result.retrieval, result.queries) == ({}, 0)


def test_retrieval_is_measured_for_every_encoder(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seed in (("exemplars", 7), ("queries", 8)):
        pairs = tiny_pairs(60, seed)
        rows = [f"{text},{text.split()[3]}" for text in pairs.a]  # the verb is the intent
        (inputs / f"{name}.csv").write_text("\n".join(["text,intent", *rows]), encoding="utf-8")
    files = {name: inputs / f"{name}.csv" for name in ("queries", "exemplars")}
    tuning = {"epochs": 1, "learning_rate": 1e-3}
    result = train(tiny_config(inputs, data={**files, "texts": files["queries"]}, teacher=tuning), tmp_path / "run")
    assert result.retrieval.keys() == result.retrieval_intervals.keys() == {"teacher as is", "teacher", "student"}
    assert (result.queries, result.exemplars, result.learned_queries, result.texts) == (60, 60, 0, 96)
    assert "60 of 60 queries also occur in the unlabelled texts; they are left out there" in caplog.text
    for system, found in result.retrieval.items():
        assert 0.2 < found["top1"] <= found["mrr"] <= 1
        low, high = result.retrieval_intervals[system]["top1"]
        assert low <= found["top1"] <= high
    run = read_run(tmp_path / "run")
    assert run.result == result
    student = load_student(run.config.student.source, run.adapter, run.config.student)
    tokenizer = load_tokenizer(run.config.student.source)
    queries = read_retrieval_set(files["queries"], files["exemplars"])
    again = evaluate_retrieval(lambda texts: encode_with(student, tokenizer, texts), queries)
    assert again.values == pytest.approx(result.retrieval["student"])
    assert "looked up among 60 exemplars" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_stages_may_be_left_out(inputs: Path, tmp_path: Path) -> None:
    off = {"epochs": 0}
    result = train(tiny_config(inputs, alignment=off, labels=off), tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == CONTENT - {"metrics.jsonl"}
    assert result.measures["student"]["dev"]["average_precision"] > 0.5


@pytest.mark.parametrize(
    ("stage", "criterion", "share"),
    [("alignment", "validation_cosine", 0.05), ("alignment", "agreement", 0.0), ("labels", "average_precision", 0.05)],
)
def test_alignment_keeps_the_epoch_nearest_to_the_teacher_and_labels_that_of_best_average_precision(
    stage: str, criterion: str, share: float, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def scripted(encode: Encode, pairs: Pairs, teacher: np.ndarray | None = None) -> dict[str, float]:
        assert teacher is not None
        seen.append(encode(pairs.texts))
        scores = {"agreement": 0.1, "average_precision": 0.1, "validation_cosine": 0.1}
        return scores | {criterion: (0.1, 0.8, 0.5)[len(seen) - 1]}

    monkeypatch.setattr(stages, "development_measures", scripted)
    monkeypatch.setattr(Validation, "measures", lambda *_: {})
    epochs = {"alignment": {"epochs": 0}, "labels": {"epochs": 0}} | {stage: {"epochs": 2}}
    train(tiny_config(inputs, data={"validation_share": share}, **epochs), tmp_path / "run")
    run = read_run(tmp_path / "run")
    student = load_student(run.config.student.source, run.adapter, run.config.student)
    tokenizer = load_tokenizer(run.config.student.source)
    dev = run.split("dev")
    assert dev is not None
    assert encode_with(student, tokenizer, dev.texts) == pytest.approx(seen[1], abs=1e-6)
    assert np.abs(seen[2] - seen[1]).max() > 1e-4


def test_scores_in_a_column_are_a_teacher(inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed, name in enumerate(("train", "dev", "test")):
        pairs = tiny_pairs(48, seed)
        noise = np.random.default_rng(seed).normal(0, 0.1, 48)
        scores = np.clip(0.2 + 0.6 * pairs.label + noise, -1, 1).astype(np.float32)
        write_pairs(Pairs(pairs.a, pairs.b, pairs.label, scores), inputs / f"{name}.csv")
    config = tiny_config(inputs, teacher={"kind": "scores"}, noise_filter={"positive_quantile": 0.1})
    result = train(config, tmp_path / "run")
    assert list(result.measures) == ["teacher", "student"]
    assert result.measures["teacher"]["test"]["average_precision"] > 0.95
    assert result.teacher.source == "column teacher_score of train.csv"
    assert result.dropped_positives == 3
    assert "no teacher vectors to initialize A with: it starts at whitened principal directions" in caplog.text
    stages = {json.loads(line)["stage"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()}
    assert stages == {"labels"}
    assert "teacher_score" in (tmp_path / "run" / "splits" / "train.csv").read_text()


def test_labels_alone_need_no_teacher(inputs: Path, tmp_path: Path) -> None:
    plain = tiny_config(inputs).model_dump(exclude_unset=True)
    content = {**plain, "preset": "labels", "teacher": {"source": "./absent"}, "alignment": {"batch_size": 16}}
    result = train(validate_config(content, origin="test"), tmp_path / "run")
    assert list(result.measures) == ["student"]
    assert result.teacher.source == "none"
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("cosent" in record for record in records)
    assert not any("mcl" in record or "alignment" in record for record in records)
    assert "measured without a teacher" in (tmp_path / "run" / "report.html").read_text()


def test_a_teacher_from_scratch(inputs: Path, tmp_path: Path) -> None:
    (inputs / "teacher" / "model.safetensors").unlink()
    teaching = {"from_scratch": True, "epochs": 2, "learning_rate": 1e-3}
    result = train(tiny_config(inputs, teacher=teaching), tmp_path / "run")
    assert list(result.measures) == ["teacher", "student"]
    assert result.teacher.revision == sha256_of(tmp_path / "run" / "teacher" / "model.safetensors")
    again = train(tiny_config(inputs, teacher=teaching), tmp_path / "again")
    assert again.teacher.revision == result.teacher.revision


class KilledError(Exception):
    pass


COMMITTEE = {"folds": 3, "epochs": 1, "learning_rate": 1e-3, "batch_size": 8}


def test_a_committee_teaches_train_texts_by_the_member_that_has_not_seen_them(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inputs / "texts.txt").write_text("an unlabelled text\nanother one", encoding="utf-8")
    # The last weights instead of the best ones, which may be those of the start: then all members are the same.
    monkeypatch.setattr(StageCallback, "restore_best", lambda _: None)
    corpora: list[Corpus] = []
    build = run_module.build_corpus

    def spy(*arguments: Any, **options: Any) -> Corpus:
        corpora.append(build(*arguments, **options))
        return corpora[-1]

    monkeypatch.setattr(run_module, "build_corpus", spy)
    config = tiny_config(inputs, teacher=COMMITTEE, data={"texts": inputs / "texts.txt", "validation_share": 0.0})
    result = train(config, tmp_path / "run")
    assert list(result.measures) == ["teacher as is", "teacher", "student"]
    members = [
        load_teacher(resolve(str(tmp_path / "run" / "teacher" / str(number))), config.teacher.max_length)
        for number in (1, 2, 3)
    ]
    assert len({member.revision for member in members}) == 3
    run, corpus = read_run(tmp_path / "run"), corpora[0]
    train_pairs = run.split("train")
    assert train_pairs is not None
    assert corpus.teacher is not None
    fold = fold_numbers(train_pairs, 3, seed=config.seed)
    for pair in (0, 7, 40):
        text = train_pairs.b[pair]
        honest = members[fold[pair]].encode([text])[0]
        assert corpus.teacher[corpus.index[text]].numpy() == pytest.approx(honest, abs=1e-5)
    mean = np.mean([member.encode(["another one"])[0] for member in members], axis=0)
    found = corpus.teacher[corpus.index["another one"]].numpy()
    assert found == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


@pytest.mark.parametrize("stage", ["teacher-2", "labels"])
def test_a_killed_committee_resumes_to_the_same_result(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    config = tiny_config(inputs, teacher=COMMITTEE)
    expected = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        save = StageCallback.on_save

        def die(self: StageCallback, *arguments: Any, **options: Any) -> None:
            save(self, *arguments, **options)
            if self.stage.name == stage:
                raise KilledError

        patch.setattr(StageCallback, "on_save", die)
        with pytest.raises(KilledError):
            train(config, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"option teacher.folds differs from .*config.json; resume with"):
        train(tiny_config(inputs, teacher=COMMITTEE | {"folds": 2}), tmp_path / "run", resume=True)
    again = train(config, tmp_path / "run", resume=True)
    assert again.model_dump(exclude={"seconds"}) == expected.model_dump(exclude={"seconds"})
    weights = adapter_weights(tmp_path / "whole")
    assert all(torch.equal(weight, weights[name]) for name, weight in adapter_weights(tmp_path / "run").items())


def test_too_few_groups_of_pairs_for_the_folds_are_refused_before_anything_is_trained(
    inputs: Path, tmp_path: Path
) -> None:
    config = tiny_config(inputs, teacher=COMMITTEE | {"folds": 40})
    with pytest.raises(InvalidPairsError, match=r"teacher.folds = 40: fold \d+ of 40 would lack pairs of label 0 or 1"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def uninterrupted(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three stages of two epochs."""
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    epochs = {"epochs": 2}
    inputs = tiny_run.with_name(f"{tiny_run.name}_inputs")
    train(tiny_config(inputs, teacher={**epochs, "learning_rate": 1e-3}, alignment=epochs, labels=epochs), path)
    return path


@pytest.mark.parametrize("stage", ["teacher", "alignment", "labels", "report"])
def test_a_killed_run_resumes_to_the_same_result(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    config, expected = read_run(uninterrupted).config, read_run(uninterrupted).result
    with monkeypatch.context() as patch:
        if stage == "report":
            patch.setattr(run_module, "write_report", lambda *_, **__: (_ for _ in ()).throw(KilledError))
        else:
            save = StageCallback.on_save

            def die(self: StageCallback, *arguments: Any, **options: Any) -> None:
                save(self, *arguments, **options)
                if self.stage.name == stage:
                    raise KilledError

            patch.setattr(StageCallback, "on_save", die)
        with pytest.raises(KilledError):
            train(config, tmp_path / "run")
    torch.manual_seed(9)
    again = train(config, tmp_path / "run", resume=True)
    assert again.model_dump(exclude={"seconds"}) == expected.model_dump(exclude={"seconds"})
    weights = adapter_weights(uninterrupted)
    assert all(torch.equal(weight, weights[name]) for name, weight in adapter_weights(tmp_path / "run").items())
    assert {path.name for path in (tmp_path / "run").iterdir()} == CONTENT | {"teacher"}
    assert train(config, tmp_path / "run", resume=True) == again


def test_a_run_is_not_resumed_with_other_options(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_report", lambda *_, **__: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            train(tiny_config(inputs), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"option student.rank differs from .*config.json; resume with"):
        train(tiny_config(inputs, student={"rank": 5}), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "adapter").is_dir()


def test_resuming_without_an_earlier_run_starts_one(inputs: Path, tmp_path: Path) -> None:
    assert train(tiny_config(inputs), tmp_path / "run", resume=True).texts == 96


def test_bf16_is_near_fp32(tiny_run: Path, inputs: Path, tmp_path: Path) -> None:
    fp32, bf16 = read_run(tiny_run).result, train(tiny_config(inputs, precision="bf16"), tmp_path / "bf16")
    one, other = (result.measures["student"]["test"]["average_precision"] for result in (fp32, bf16))
    assert one == pytest.approx(other, abs=0.05)
    first, second = (adapter_weights(path) for path in (tiny_run, tmp_path / "bf16"))
    assert all(weight.dtype == torch.float32 for weight in second.values())
    assert any(not torch.equal(weight, second[name]) for name, weight in first.items())


@pytest.mark.parametrize(("has_it", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_depends_on_the_device_and_a_run_resumes_in_it(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_it: bool, expected: str
) -> None:
    config = tiny_config(inputs, precision="auto", alignment={"epochs": 0})
    monkeypatch.setattr(distributed, "has_bf16", lambda: has_it)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_report", lambda *_, **__: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            train(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "has_bf16", lambda: not has_it)
        with pytest.raises(ConfigError, match=r"option precision differs from"):
            train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "run", resume=True)
    assert read_run(tmp_path / "run").config.precision == expected


def test_the_paper_preset_trains_and_records_the_index_of_the_last_block(inputs: Path, tmp_path: Path) -> None:
    plain = tiny_config(inputs).model_dump(exclude_unset=True)
    own = {"rank": 4, "alpha": 4.0, "source": plain["student"]["source"], "max_length": 48}
    content = {"preset": "paper", **plain, "student": own, "labels": {"batch_size": 8, "epochs": 1}}
    result = train(validate_config(content, origin="test"), tmp_path / "run")
    config = read_run(tmp_path / "run").config
    assert (config.student.layer, config.student.attention, config.loss.label_lm) == (3, "causal", 1.0)
    assert result.dropped_positives > 0


def test_a_diverging_run_reports_the_step_and_is_not_finished(inputs: Path, tmp_path: Path) -> None:
    config = tiny_config(inputs, alignment={"learning_rate": 1e30})
    with pytest.raises(
        TrainingError, match=r"stage 'alignment', step \d+: the loss term '\w+' became nan on texts .* lower"
    ):
        train(config, tmp_path / "run")
    with pytest.raises(TrainingError, match="did not finish"):
        read_run(tmp_path / "run")


def test_training_touches_no_logging(inputs: Path, tmp_path: Path) -> None:
    loggers = [logging.getLogger(name) for name in ("", "flipkd_sdk", "transformers")]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    train(tiny_config(inputs, alignment={"epochs": 0}), tmp_path / "run")
    assert [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers] == before
