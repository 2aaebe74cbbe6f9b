from __future__ import annotations

import csv
import json
import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny import add_domain, add_sketch, write_tiny_matcher

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.manifest import read_manifest
from flipkd_sdk.artifact.profile import FILE
from flipkd_sdk.cli.main import cli
from flipkd_sdk.evaluation.drift import Drift
from flipkd_sdk.pairs import Pairs
from flipkd_sdk.runtimes.load import load_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

VERBS, THINGS = ("reset", "lose", "find", "block", "order", "close"), ("card", "PIN", "fee", "transfer", "account")
FOREIGN = ("如何重置我的密码", "Zahnärzte überprüfen Röntgenbilder", "ψ is a wave function", "ОБЛАКО")


def questions(count: int, seed: int) -> list[str]:
    """Distinct questions of one kind."""
    random = np.random.default_rng(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        verb, thing, number = random.choice(VERBS), random.choice(THINGS), random.integers(100)
        made[f"How do I {verb} my {thing}{' today' * int(random.integers(4))}, number {number}?"] = None
    return list(made)


def pairs_of(texts: list[str], seed: int) -> list[tuple[str, str]]:
    shuffled = np.random.default_rng(seed).permutation(texts).tolist()
    return list(zip(texts, shuffled, strict=True))


def write(path: Path, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_tiny_matcher(tmp_path_factory.mktemp("drift") / "matcher", max_length=64)
    held_out = pairs_of(questions(300, 1), 1)
    a, b = zip(*held_out, strict=True)
    add_domain(path, questions(200, 0), Pairs(a, b, np.ones(len(a), np.int8)))
    return path


@pytest.fixture
def drift(matcher: Path) -> Callable[..., Result]:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli, ["drift", str(matcher), *map(str, arguments), "--device", "cpu"])

    return run


@pytest.fixture
def alike(tmp_path: Path) -> Path:
    return write(tmp_path / "alike.csv", ("text_a", "text_b"), pairs_of(questions(250, 2), 2))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    texts = [f"{FOREIGN[i % 4]} {i}" for i in range(250)]
    return write(tmp_path / "other.csv", ("text_a", "text_b"), pairs_of(texts, 2))


def test_pairs_of_the_same_kind_are_stable_in_all_measures(drift: Callable[..., Result], alike: Path) -> None:
    done = drift(alike, "--limit", "0.25", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["measures"]) == ["score", "length", "unknown", "similarity"]
    assert {measure["verdict"] for measure in found["measures"].values()} == {"stable"}
    assert (found["rows"], found["pairs"], found["texts"], found["above_limit"]) == (250, 250, 250, [])


def test_other_texts_exceed_the_limit_and_set_the_exit_code(drift: Callable[..., Result], other: Path) -> None:
    done = drift(other, "--limit", "0.25", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert {"length", "unknown", "similarity"} <= set(found["above_limit"])
    assert found["measures"]["unknown"]["outside"] > 0.9
    assert done.stderr.startswith(f"flipkd: error: {other}: stability index above 0.25: ")
    assert done.stderr.count("\n") == 1
    assert drift(other).exit_code == 0, "without a limit drift is no failure"


def test_the_figures_are_those_of_the_measures(
    drift: Callable[..., Result], matcher: Path, alike: Path, tmp_path: Path
) -> None:
    found = json.loads(drift(alike, "--json").stdout)["measures"]
    with alike.open(newline="", encoding="utf-8") as file:
        rows = [(row["text_a"], row["text_b"]) for row in csv.DictReader(file)]
    texts = list(dict.fromkeys(text for row in rows for text in row))
    stored = load_profile(matcher, read_manifest(matcher)).histograms
    with Matcher.load(matcher, device="cpu", on_truncate="ignore") as model:
        cosines = np.array([a @ b for a, b in zip(*(model.encode(t) for t in zip(*rows, strict=True)), strict=True)])
        similarity = model.training_similarity(texts)
        edges = model.calibration.probability(stored["score"].edges.astype(np.float32))
    assert found["score"]["psi"] == pytest.approx(Drift(stored["score"], stored["score"].count(cosines)).psi, abs=0.05)
    assert found["score"]["edges"] == pytest.approx(edges.tolist())
    exact = Drift(stored["similarity"], stored["similarity"].count(similarity))
    assert found["similarity"]["psi"] == pytest.approx(exact.psi, abs=0.05)


def test_texts_have_no_scores_and_are_found_by_the_usual_name_or_by_option(
    drift: Callable[..., Result], tmp_path: Path
) -> None:
    texts = questions(250, 3)
    tables = (
        (write(tmp_path / "a.csv", ("id", "text"), [("1", text) for text in texts]), ()),
        (write(tmp_path / "b.csv", ("question", "x"), [(text, "") for text in texts]), ("--text-column", "question")),
        (write(tmp_path / "c.csv", (texts[0],), [(text,) for text in texts[1:]]), ("--no-header",)),
    )
    found = [json.loads(drift(table, *options, "--json").stdout) for table, options in tables]
    assert [list(one["measures"]) for one in found] == [["length", "unknown", "similarity"]] * 3
    assert found[0]["measures"] == found[1]["measures"] == found[2]["measures"]
    assert found[0]["pairs"] == 0


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_jsonl_and_parquet_give_the_same_figures_as_csv(
    drift: Callable[..., Result], alike: Path, tmp_path: Path, suffix: str
) -> None:
    with alike.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    path = tmp_path / f"table.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    assert json.loads(drift(path, "--json").stdout)["measures"] == json.loads(drift(alike, "--json").stdout)["measures"]


def test_a_large_table_is_sampled_the_same_way_each_time(drift: Callable[..., Result], alike: Path) -> None:
    chosen = [json.loads(drift(alike, "--rows", "150", "--seed", seed, "--json").stdout) for seed in ("1", "1", "2")]
    assert chosen[0] == chosen[1] != chosen[2]
    assert (chosen[0]["rows"], chosen[0]["sampled_rows"], chosen[0]["pairs"]) == (250, 150, 150)
    assert "250 rows, 150 of them drawn at random" in drift(alike, "--rows", "150").stdout


def test_recalibration_moves_no_index(drift: Callable[..., Result], matcher: Path, alike: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(matcher, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["calibration"] |= {"slope": 1.0, "intercept": 2.0}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    done = CliRunner().invoke(cli, ["drift", str(copy), str(alike), "--device", "cpu", "--json"])
    after, before = json.loads(done.stdout)["measures"]["score"], json.loads(drift(alike, "--json").stdout)["measures"]
    assert after["psi"] == before["score"]["psi"]
    assert after["edges"] != before["score"]["edges"]


def test_too_few_rows_are_refused_with_the_number_needed(drift: Callable[..., Result], tmp_path: Path) -> None:
    few = write(tmp_path / "few.csv", ("text_a", "text_b"), pairs_of(questions(20, 4), 4))
    done = drift(few)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "20 pairs without a blank text are too few to tell drift from chance; at least " in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("head", "rows", "message"),
    [
        (("text",), [], "no rows"),
        (("text",), [("",), ("  ",)], "0 distinct texts are too few"),
        (("text",), [("the same",)] * 500, "1 distinct texts are too few"),
        (("title", "body"), [("a", "b")], "name a column of texts with --text-column, or two with --a-column"),
        (("text_a", "title"), [("a", "b")], "name a column of texts with --text-column"),
    ],
)
def test_a_table_that_cannot_be_compared_is_one_clear_line(
    drift: Callable[..., Result], tmp_path: Path, head: tuple[str, ...], rows: list[tuple[str, ...]], message: str
) -> None:
    done = drift(write(tmp_path / "table.csv", head, rows))
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--limit", "0"), "x>0"),
        (("--limit", "nan"), "nan is not a number"),
        (("--text-column", "a", "--a-column", "b"), "name one kind"),
        (("--rows", "0"), "x>=1"),
    ],
)
def test_options_that_cannot_be_are_wrong_usage(
    drift: Callable[..., Result], alike: Path, options: tuple[str, ...], message: str
) -> None:
    done = drift(alike, *options)
    assert done.exit_code == 2
    assert message in done.stderr


def test_blank_texts_are_counted_and_left_out(drift: Callable[..., Result], tmp_path: Path) -> None:
    rows = [*pairs_of(questions(250, 2), 2), ("", "a card"), ("  ", "the card")]
    found = json.loads(drift(write(tmp_path / "t.csv", ("text_a", "text_b"), rows), "--json").stdout)
    assert (found["rows"], found["pairs"], found["blank_texts"]) == (252, 250, 2)


def test_an_older_directory_says_how_to_get_a_profile(tiny_matcher: Path, alike: Path) -> None:
    done = CliRunner().invoke(cli, ["drift", str(tiny_matcher), str(alike)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no profile of its domain; export it again with this release" in done.stderr


def test_a_matcher_without_training_texts_has_a_profile_of_scores_and_lengths(tmp_path: Path, alike: Path) -> None:
    from tiny import write_manifest

    from flipkd_sdk.exporters.directory.profile import add_profile

    path = write_tiny_matcher(tmp_path / "m", max_length=64)
    a, b = zip(*pairs_of(questions(300, 1), 1), strict=True)
    write_manifest(path, add_profile(read_manifest(path), path, [], [Pairs(a, b, np.ones(len(a), np.int8))]))
    found = json.loads(CliRunner().invoke(cli, ["drift", str(path), str(alike), "--json"]).stdout)
    assert list(found["measures"]) == ["score", "length"]


def test_trained_texts_are_left_out_of_the_profile_unless_there_are_no_others(tmp_path: Path) -> None:
    from flipkd_sdk.exporters.directory.profile import add_profile

    path = write_tiny_matcher(tmp_path / "m")
    texts = questions(40, 5)
    add_sketch(path, texts[:30], texts)
    a, b = tuple(texts[:20]), tuple(texts[20:])
    profile = add_profile(read_manifest(path), path, texts[:30], [Pairs(a, b, np.ones(20, np.int8))]).profile
    assert profile is not None
    assert (profile.pairs, profile.texts) == (20, 10)
    profile = add_profile(read_manifest(path), path, texts, [Pairs(a, b, np.ones(20, np.int8))]).profile
    assert profile is not None
    assert profile.texts == 40


def test_a_changed_profile_is_refused_and_scores_do_not_need_it(matcher: Path, alike: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(matcher, tmp_path / "copy")
    content = bytearray((copy / FILE).read_bytes())
    content[-1] ^= 1
    (copy / FILE).write_bytes(content)
    for command in (["drift", str(copy), str(alike)], ["inspect", str(copy)], ["verify", str(copy)]):
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 1
        assert f"{FILE}: its SHA-256 differs" in done.stderr
    with Matcher.load(copy, device="cpu") as model:
        assert 0 <= model.score("a card", "the card") <= 1


def test_the_report_has_every_measure_and_is_not_replaced_unasked(
    drift: Callable[..., Result], other: Path, tmp_path: Path
) -> None:
    report = tmp_path / "drift.html"
    assert drift(other, "--report", report).exit_code == 0
    html = report.read_text(encoding="utf-8")
    assert html.count("<svg") >= 4
    for text in ("Drift report", "These texts differ in", "Least similar texts", "outside the range at export"):
        assert text in html
    assert "exists already" in drift(other, "--report", report).stderr
    assert drift(other, "--report", report, "--overwrite").exit_code == 0


def test_inspect_shows_the_profile(matcher: Path, tiny_matcher: Path) -> None:
    shown = CliRunner().invoke(cli, ["inspect", str(matcher)]).stdout
    assert re.search(r"of 300 pairs and 2\d\d texts, for 'flipkd drift'", shown)
    assert "none; export again for it" in CliRunner().invoke(cli, ["inspect", str(tiny_matcher)]).stdout
