from __future__ import annotations

import csv
import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from experiments import figures, head, inputs, plan, runner, table
from experiments.figures import AP, Estimate, read_results
from experiments.plan import RUNS, Run
from plot import draw_experiments
from tiny_models import tiny_pairs, write_tiny_llama, write_tiny_run, write_tiny_teacher

from flipkd_sdk.artifact.limits import LIMITS
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.exporters import export
from flipkd_sdk.exporters.verification import widen
from flipkd_sdk.pairs import read_pairs, read_texts, write_pairs
from flipkd_sdk.training.config.load import override, validate_config
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.teacher import load_teacher
from flipkd_sdk.training.run_directory import read_run

if TYPE_CHECKING:
    from click.testing import Result

SHIFTS = {"int8.spearman": 0.5, "int8.max_cosine_change": 0.5, "int8.average_precision_change": 0.5}
"""A toy student's cosines lie so close together that any rounding changes their order."""
SHOWN = tiny_pairs(24, 2).a[0]
"""A text of mqp's test pairs that stands in rqe's train pairs, too."""
BANK = [
    (f"{verb} my {thing} {number}", f"{verb}_{thing}")
    for verb in ("find", "lose", "block")
    for thing in ("card", "PIN")
    for number in range(20)
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder with toy files."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("mqp", "rqe", "banking77", "atec"):
        (folder / name).mkdir()
    for seed, (name, count) in enumerate({"mqp/train": 48, "mqp/dev": 24, "mqp/test": 24, "rqe/dev": 20}.items()):
        write_pairs(tiny_pairs(count, seed), folder / f"{name}.csv")
    train = tiny_pairs(40, 9)
    write_pairs(replace(train, a=(SHOWN, *train.a[1:])), folder / "rqe" / "train.csv")
    for name, rows in (("train", BANK), ("test", [(f"please {text}", intent) for text, intent in BANK[::4]])):
        with (folder / "banking77" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "intent"), *rows])
    for seed, name in enumerate(("train", "dev", "test")):
        rows = [(f"花呗怎么还款{seed}号{i}", f"怎么还花呗{seed}号{i}", i % 2) for i in range(20)]
        with (folder / "atec" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text_a", "text_b", "label"), *rows])
    return folder


# The plan.


def test_names_and_directories_are_unique() -> None:
    assert max(Counter(run.name for run in RUNS).values()) == 1
    assert max(Counter(run.digest for run in RUNS).values()) == 1


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_run_has_options_that_training_takes(run: Run) -> None:
    teacher = Path("/teacher") if run.needs else None
    options = runner.training_options(run, Path("/inputs"), teacher)
    config = validate_config(override({}, options), origin=run.name)
    assert config.seed == run.seed
    assert config.data.pairs == Path("/inputs/train.csv")
    assert not any("{" in str(value) or "None" in str(value) for value in options.values())
    assert 0 < run.minutes <= plan.LONGEST


def test_the_plan_is_in_an_order_that_can_be_followed() -> None:
    assert [run.name for run in RUNS[:2]] == ["mqp-flipped-0", "mqp-labels-0"]
    names = [run.name for run in RUNS]
    for place, run in enumerate(RUNS):
        assert run.needs is None or run.needs in RUNS[:place]
        assert run.base is None or run.base in names[: place + 1]
    main = Counter(run.label for run in RUNS if run.data == "mqp" and run.base is None)
    assert main == {
        "flipped": 3,
        "labels only": 3,
        "flipped, 15 blocks": 1,
        "defaults, no texts": 1,
        "flipped, the paper's preset": 1,
    }


def test_the_digest_follows_what_the_result_depends_on() -> None:
    run = next(run for run in RUNS if run.needs)
    changes: list[dict[str, Any]] = [
        {"seed": 7},
        {"options": {**run.options, "student.layer": 5}},
        {"needs": replace(run.needs, seed=7)},
    ]
    assert len({run.digest, *(replace(run, **change).digest for change in changes)}) == 4
    assert replace(run, minutes=1, label="another", cut="all").digest == run.digest


# Its inputs.


@pytest.mark.parametrize("name", ["mqp", "rqe", "banking77", "atec"])
def test_nothing_held_out_is_learned_from(data: Path, tmp_path: Path, name: str) -> None:
    folder = inputs.prepare(name, data, tmp_path)
    train, dev, test = (read_pairs(folder / f"{split}.csv") for split in ("train", "dev", "test"))
    held_out = {*dev.texts, *test.texts}
    assert held_out.isdisjoint(train.texts)
    assert set(dev.texts).isdisjoint(test.texts)
    for file in folder.glob("texts*.csv"):
        texts = read_texts(file)
        assert len(set(texts)) == len(texts)
        assert held_out.isdisjoint(texts)
        assert SHOWN not in texts
        assert set(train.texts) - {SHOWN} <= set(texts)


def test_inputs_are_written_once_and_always_the_same(data: Path, tmp_path: Path) -> None:
    one, other = (inputs.prepare("mqp", data, tmp_path / name) for name in ("one", "other"))
    files = sorted(path.name for path in one.iterdir())
    assert files == ["dev.csv", "test.csv", "texts-small.csv", "texts.csv", "train.csv"]
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)
    (one / "train.csv").write_text("mine")
    assert (inputs.prepare("mqp", data, tmp_path / "one") / "train.csv").read_text() == "mine"


def test_inputs_are_complete_or_absent(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidPairsError, match=r"train\.csv: no such file"):
        inputs.prepare("rqe", tmp_path, tmp_path)
    assert not list((tmp_path / "inputs").iterdir())


def test_a_smaller_file_of_texts_keeps_the_train_texts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "FEWER_TEXTS", 10)
    folder = inputs.prepare("mqp", data, tmp_path)
    small, every = (read_texts(folder / name) for name in ("texts-small.csv", "texts.csv"))
    train = read_pairs(folder / "train.csv").texts
    assert len(small) == len(train) + 10
    assert set(train) < set(small) < set(every)


def test_the_files_of_the_curve_contain_so_many_texts_each_those_of_the_smaller_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "TEXT_COUNTS", (10, 100, 120, 500))
    (data / "medquad").mkdir(exist_ok=True)
    shown = tiny_pairs(24, 2).a[0]  # a text of the test pairs
    lines = ["text", shown, *(f"medical text {number}" for number in range(40))]
    (data / "medquad" / "texts.csv").write_text("\n".join(lines), encoding="utf-8")
    folder = inputs.prepare("mqp-medquad", data, tmp_path)
    files = [read_texts(folder / f"texts-{count}.csv") for count in (10, 100, 120, 500)]
    assert [len(texts) for texts in files] == [10, 100, 120, 96 + 40]
    for fewer, more in itertools.pairwise(files):
        assert more[: len(fewer)] == fewer
    assert shown not in files[-1]


def test_rqe_is_reported_on_its_dev_file(data: Path, tmp_path: Path) -> None:
    folder = inputs.prepare("rqe", data, tmp_path)
    assert read_pairs(folder / "test.csv").a == read_pairs(data / "rqe" / "dev.csv").a
    assert set(read_pairs(folder / "dev.csv").texts) < set(read_pairs(data / "rqe" / "train.csv").texts)


def test_pairs_from_intents() -> None:
    intent = dict(BANK)
    pairs = inputs.intent_pairs(BANK, seed=0)
    assert sorted(pairs.a) == sorted(intent)
    same = [intent[a] == intent[b] for a, b in zip(pairs.a, pairs.b, strict=True)]
    assert same == pairs.label.astype(bool).tolist()
    assert pairs.label.mean() == 0.5
    assert all(a != b for a, b in zip(pairs.a, pairs.b, strict=True))
    shared = [len(set(a.split()) & set(b.split())) for a, b in zip(pairs.a, pairs.b, strict=True)]
    easy, hard = (np.mean(shared[start::4]) for start in (1, 3))
    assert hard > easy + 0.5
    again, other = (inputs.intent_pairs(BANK, seed=seed) for seed in (0, 1))
    assert (again.a, again.b) == (pairs.a, pairs.b)
    assert other.b != pairs.b


def test_queries_and_exemplars_of_banking77(data: Path, tmp_path: Path) -> None:
    folder = inputs.prepare("banking77", data, tmp_path)
    for name, of in (("exemplars", "train"), ("queries", "test")):
        with (
            (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file,
            (data / "banking77" / f"{of}.csv").open(encoding="utf-8", newline="") as source,
        ):
            assert list(csv.reader(file)) == list(csv.reader(source))


def test_the_encoder_from_scratch_reads_characters(tmp_path: Path) -> None:
    inputs.write_encoder(tmp_path, ["花呗 怎么还", "花呗怎么", "PIN 还 pin"])
    teacher = load_teacher(resolve(str(tmp_path), weights=False), 64, from_scratch=True)
    said = teacher.tokenizer("花 呗Ｐin新")["input_ids"]
    assert teacher.tokenizer.convert_ids_to_tokens(said) == ["[CLS]", "花", "呗", "p", "i", "n", "[UNK]", "[SEP]"]
    assert teacher.encode(["花呗", ""]).shape == (2, 256)


# The runner, on toy models, through the real command.


@pytest.fixture(scope="module")
def toy_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ...]:
    """A flipped student that is exported, one of labels, and two ablations with the first one's teacher."""
    models = tmp_path_factory.mktemp("models")
    tiny: dict[str, object] = {
        "student.source": str(write_tiny_llama(models / "llama")),
        "student.layer": 1,
        "student.rank": 4,
        "student.site_rank": 16,
        "labels.epochs": 1,
        "labels.learning_rate": 1e-3,
    }
    flipped = plan.PAIRS | plan.TEXTS | plan.FLIPPED | tiny | {"alignment.epochs": 1, "alignment.fewest_texts": 0}
    teacher = {"teacher.source": str(write_tiny_teacher(models / "teacher")), "teacher.epochs": 1}
    first = Run("mqp-flipped-0", "mqp", "flipped", flipped | teacher, 1, exported=True, cut="everything.")
    base = Run(
        *("ablation-base", "mqp", "all", flipped | {"teacher.source": "{teacher}", "teacher.epochs": 0}, 1),
        needs=first,
        base="ablation-base",
    )
    smaller = base.options | {"student.mlp_width": 24}
    narrow = replace(base, name="ablation-narrow", label="narrow", options=smaller)
    return first, Run("mqp-labels-0", "mqp", "labels only", plan.PAIRS | plan.LABELS | tiny, 1), base, narrow


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, data: Path, work: Path) -> None:
    monkeypatch.setenv("FLIPKD_DATA", str(data))
    monkeypatch.setenv("FLIPKD_CACHE", str(work / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # toy models are fastest on one thread
    monkeypatch.setattr(export, "LIMITS", widen(LIMITS, SHIFTS))


def invoke(monkeypatch: pytest.MonkeyPatch, runs: tuple[Run, ...], work: Path, *arguments: str) -> Result:
    monkeypatch.setattr(runner, "RUNS", runs)
    places = ["--work", str(work), "--results", str(work / "results")]
    return CliRunner().invoke(runner.main, [*arguments, *places])


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch, toy_runs: tuple[Run, ...], work: Path) -> list[figures.Finished]:
    """All toy runs, trained by the first test that needs them."""
    done = invoke(monkeypatch, toy_runs, work)
    assert done.exit_code == 0, done.output
    return read_results(work / "results", toy_runs)


def test_each_run_leaves_a_results_file(finished: list[figures.Finished], work: Path, data: Path) -> None:
    assert [one.run.name for one in finished] == ["mqp-flipped-0", "mqp-labels-0", "ablation-base", "ablation-narrow"]
    for one in finished:
        directory = work / "runs" / f"{one.run.name}-{one.run.digest}"
        result = read_run(directory).result
        assert one.record["result"]["measures"] == result.measures
        assert one.record["config"]["seed"] == one.record["seed"] == 0
        assert one.record["config"]["data"]["pairs"] == "$WORK/inputs/mqp/train.csv"
        assert one.record["starts"] in (1, 2)  # another test stops one
        assert {"torch", "flipkd-sdk"} <= one.record["environment"]["packages"].keys()
        text = (work / "results" / f"{one.run.name}.json").read_text(encoding="utf-8")
        assert str(work) not in text
        assert str(data) not in text
        for system in ("student", "teacher"):
            if system in one.record["scores"]:
                exact = result.measures[system]["test"][AP]
                assert average_precision(one.scores(system), one.labels) == pytest.approx(exact, abs=0.02)
    first, labels, base, narrow = (one.record for one in finished)
    assert set(first["result"]["measures"]) == {"teacher as is", "teacher", "student", "student with head"}
    assert set(labels["result"]["measures"]) - {"student with head"} == {"student"}
    assert base["result"]["measures"]["teacher"] == first["result"]["measures"]["teacher"]
    assert [one["config"]["student"]["mlp_width"] for one in (base, narrow)] == [None, 24]
    assert first["scores"].keys() == {"label", "student", "teacher", "student int8", "student fp32"}
    whole = first["exported"]["fp32"]["measures"][AP]
    assert whole == pytest.approx(first["result"]["measures"]["student"]["test"][AP], abs=0.02)
    assert first["exported"]["int8"]["bytes"] < first["exported"]["fp32"]["bytes"]
    low, high = first["exported"]["int8"]["intervals"][AP]
    assert low <= first["exported"]["int8"]["measures"][AP] <= high


def test_what_is_done_is_not_done_again(
    finished: list[figures.Finished], toy_runs: tuple[Run, ...], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "execute", lambda run, _: pytest.fail(f"{run.name} is done"))
    assert "4 runs had a result, 0 were done now" in invoke(monkeypatch, toy_runs, work).output
    listed = invoke(monkeypatch, toy_runs, work, "--list").output
    assert listed.count("done ") == 4
    changed = replace(toy_runs[1], options={**toy_runs[1].options, "labels.epochs": 2})
    listed = invoke(monkeypatch, (toy_runs[0], changed), work, "--list").output
    assert [line.split()[0] for line in listed.splitlines()] == ["done", "to", "to"]


def test_a_stopped_run_goes_on(
    finished: list[figures.Finished], toy_runs: tuple[Run, ...], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, before = toy_runs[1], finished[1].record
    (work / "results" / f"{run.name}.json").unlink()
    (work / "runs" / f"{run.name}-{run.digest}" / "result.json").unlink()
    done = invoke(monkeypatch, toy_runs, work, run.name)
    assert "0 runs had a result, 1 were done now" in done.output
    after = json.loads((work / "results" / f"{run.name}.json").read_text(encoding="utf-8"))
    assert after["starts"] == 2
    assert after["result"]["measures"] == before["result"]["measures"]


def test_a_run_that_fails_does_not_stop_the_others(
    finished: list[figures.Finished], toy_runs: tuple[Run, ...], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = toy_runs[1]
    (work / "results" / f"{labels.name}.json").unlink()
    broken = replace(labels, name="broken", options={**labels.options, "student.source": "/nowhere/llm"})
    done = invoke(monkeypatch, (broken, labels), work)
    assert done.exit_code == 1
    assert "broken: flipkd train ended with 1" in done.output
    assert "failed: broken" in done.output
    assert (work / "results" / f"{labels.name}.json").is_file()
    assert not list((work / "results").glob("broken*"))


def test_where_the_data_should_be_is_said(
    toy_runs: tuple[Run, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIPKD_DATA", str(tmp_path / "absent"))
    done = invoke(monkeypatch, toy_runs, tmp_path)
    assert done.exit_code == 1
    assert "absent: missing" in done.output
    assert "FLIPKD_DATA" in done.output


def test_a_refused_export_is_said(
    finished: list[figures.Finished], toy_runs: tuple[Run, ...], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_runs[0]
    (matcher,) = (work / "runs").glob("*-matcher")
    aside = matcher.rename(work / "aside")
    file = work / "results" / f"{run.name}.json"
    kept = file.read_bytes()
    file.unlink()
    monkeypatch.setattr(export, "LIMITS", widen(LIMITS, {"int8.max_cosine_change": 0.0}))
    assert invoke(monkeypatch, toy_runs, work, run.name).exit_code == 0
    (one,) = read_results(work / "results", [run])
    file.write_bytes(kept)
    aside.rename(matcher)
    assert one.record["exported"] == {}
    assert "the int8 variant is outside its limits" in one.record["export_refused"]
    assert "has no int8 row: the int8 variant is outside" in table.block([one])


def test_an_unknown_name_is_wrong_usage(
    toy_runs: tuple[Run, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = invoke(monkeypatch, toy_runs, tmp_path, "mqp", "mpq")
    assert done.exit_code == 2
    assert "'mpq'" in done.output


# The table.


def test_the_table_of_toy_runs(finished: list[figures.Finished], tmp_path: Path) -> None:
    said = table.block(finished)
    measures = finished[0].record["result"]["measures"]
    for system, row in (
        ("teacher as is", "teacher as is"),
        ("teacher", "teacher fine-tuned"),
        ("student", "student, flipped"),
    ):
        (line,) = (line for line in said.splitlines() if line.startswith(f"| mqp | {row} |"))
        assert f"| {measures[system]['test'][AP]:.3f} [" in line
        assert f"| {measures[system]['test']['f1']:.3f} [" in line
    assert said.count("| mqp | student") == 3
    assert "- mqp, student, flipped: " in said
    assert "- mqp, student, flipped, int8: " in said
    assert said.count("- mqp, student") == 2
    assert "| all | " in said
    assert "| narrow | " in said
    assert "- Cut in everything." in said
    draw_experiments(
        figures.comparison(finished), figures.ablations(finished, "ablation-base"), tmp_path / "quality.svg"
    )
    assert "student, flipped, int8" in (tmp_path / "quality.svg").read_text(encoding="utf-8")


def test_a_changed_figure_changes_the_table(finished: list[figures.Finished], work: Path, tmp_path: Path) -> None:
    file = work / "results" / "mqp-flipped-0.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["result"]["measures"]["student"]["test"]["f1"] = 0.4321
    (tmp_path / file.name).write_text(json.dumps(record), encoding="utf-8")
    (changed,) = read_results(tmp_path, [finished[0].run])
    assert "| 0.432 [" in table.block([changed])
    assert "| 0.432 [" not in table.block(finished[:1])


def test_seeds_are_averaged(finished: list[figures.Finished]) -> None:
    one = finished[0]
    record = json.loads(json.dumps(one.record))
    measures = record["result"]["measures"]["student"]["test"]
    measures[AP] = one.record["result"]["measures"]["student"]["test"][AP] - 0.2
    rows = figures.comparison([one, figures.Finished(replace(one.run, name="mqp-flipped-1"), record)])
    (flipped,) = (row for row in rows if row.system == "student, flipped")
    first, second = flipped.measures[AP].values
    assert first - second == pytest.approx(0.2)
    assert flipped.measures[AP].value == pytest.approx(first - 0.1)
    assert len(flipped.measures[AP].intervals) == 2


def test_students_of_another_kind_have_rows_of_their_own(finished: list[figures.Finished]) -> None:
    deep = figures.Finished(replace(finished[0].run, name="mqp-deep-0", label="flipped, deep"), finished[0].record)
    flipped = ["student, flipped", "student, flipped, int8", "student, flipped, deep", "student, flipped, deep, int8"]
    systems = [row.system for row in figures.comparison([*finished, deep])]
    assert systems == ["teacher as is", "teacher fine-tuned", "student, labels only", *flipped]
    assert [system for _, system, _ in figures.against_teachers([*finished, deep])] == flipped
    seeds = {row.system: len(row.measures[AP].values) for row in figures.comparison([*finished, deep])}
    assert set(seeds.values()) == {1}


def test_a_difference_is_taken_on_the_same_pairs() -> None:
    rng = np.random.default_rng(0)
    label = np.tile([0, 1], 200).astype(np.int8)
    worse = label + rng.normal(size=400)
    better = label + 0.7 * (worse - label)
    gain = figures.difference([(better, worse)], label)
    assert gain.value == pytest.approx(average_precision(better, label) - average_precision(worse, label))
    assert 0 < gain.interval[0] < gain.value < gain.interval[1]
    same = figures.difference([(worse, worse), (better, better)], label)
    assert same == Estimate((0.0,), ((0.0, 0.0),))


def test_ablations_need_their_base(finished: list[figures.Finished]) -> None:
    assert [one.gain is None for one in figures.ablations(finished, "ablation-base")] == [True, False]
    assert figures.ablations(finished[3:], "ablation-base") == []


def test_only_what_is_between_the_markers_is_rewritten() -> None:
    page = f"above\n{table.BEGIN}\nold\n{table.END}\nbelow\n"
    inside = table.block([])
    new = table.rewritten(page, inside)
    assert new == f"above\n{inside}below\n"
    assert table.rewritten(new, inside) == new
    with pytest.raises(ValueError, match=r"no .*Written by"):
        table.rewritten("above\nbelow\n", inside)


# What is committed.


def test_the_readme_shows_the_committed_results() -> None:
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.rewritten(page, table.block(read_results(table.RESULTS))) == page, "run: make experiments-table"


def test_committed_results_are_of_the_plan_as_it_is() -> None:
    of_plan = {run.name: run.digest for run in RUNS}
    for file in sorted(table.RESULTS.glob("*.json")):
        assert json.loads(file.read_text(encoding="utf-8"))["digest"] == of_plan[file.stem], (
            f"{file.name}: of another plan"
        )


def test_heads_are_trained_for_a_finished_run_and_their_means_are_a_table(tmp_path: Path) -> None:
    run = write_tiny_run(
        tmp_path / "run", head={"enabled": False, "epochs": 2, "teacher_pairs": 30, "sibling_pairs": 5, "context": 6},
        contrast={"language": "en", "pairs_per_kind": 5},
    )  # fmt: skip
    arguments = [str(run), "--seeds", "1", "--only", "cues only", "--results", str(tmp_path / "heads.json")]
    first, again = (CliRunner().invoke(head.main, arguments) for _ in range(2))
    assert first.exit_code == again.exit_code == 0, first.output
    assert first.stdout == again.stdout
    rows = [line for line in first.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| head", "| none: the cosine", "| cues only"]
    measured = json.loads((tmp_path / "heads.json").read_text())["heads"]["cues only"]["0"]["head"]
    assert measured.keys() == {"dev", "test", "bank", "medicine"}
    assert 0 <= measured["bank"]["kinds"]["negation"] <= 1
