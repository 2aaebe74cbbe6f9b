"""Which pairs are proposed, and what the labels say."""

from __future__ import annotations

import csv
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny import TEXTS

from flipkd_sdk.cli.labelling.chooser import NEAR, RANDOM, Chooser
from flipkd_sdk.cli.labelling.label_file import LabelFile
from flipkd_sdk.cli.labelling.pool import Pool, make_pool
from flipkd_sdk.cli.labelling.progress import Curve, features, learning_curve, wilson
from flipkd_sdk.cli.labelling.session import Session
from flipkd_sdk.cli.main import cli
from flipkd_sdk.errors import InvalidPairsError

ROOT = Path(__file__).resolve().parents[2]


def drawn_pool(count: int = 400, seed: int = 0) -> Pool:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(2, count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    names = [f"text {i}" for i in range(count)]
    return Pool(names, [f"other {i}" for i in range(count)], random.uniform(size=count), *vectors)


def test_neighbours_are_paired_once_and_never_with_themselves() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"t{i}" for i in range(60)]
    found = make_pool(["", *names, names[0]], None, lambda _: vectors, lambda _, cosines: cosines, 0.5, seed=0)
    pairs = {frozenset(pair) for pair in zip(found.a, found.b, strict=True)}
    assert len(pairs) == len(found)
    assert all(len(pair) == 2 for pair in pairs)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    assert all(frozenset((names[i], names[int(cosines[i].argmax())])) in pairs for i in range(60))
    np.testing.assert_allclose(found.values, (found.vectors_a * found.vectors_b).sum(axis=1), atol=1e-6)


def test_two_tables_are_paired_across() -> None:
    vectors = np.eye(4, dtype=np.float32)
    found = make_pool(["a", "b"], ["c", "d"], lambda texts: vectors[: len(texts)], lambda _, c: c, 0.5, seed=0)
    assert set(found.a) == {"a", "b"} and set(found.b) == {"c", "d"}
    with pytest.raises(InvalidPairsError, match="at least two distinct texts"):
        make_pool(["a", "a", " "], None, lambda texts: vectors[: len(texts)], lambda _, c: c, 0.5, seed=0)


def test_pairs_near_the_threshold_come_first_and_random_ones_are_matches() -> None:
    pool = drawn_pool()
    chooser = Chooser(pool, 0.6, random_share=0.3, seed=1)
    kinds = {NEAR: [], RANDOM: []}
    for done in range(100):
        row, why = chooser.choose(done) or (0, "")
        kinds[why].append(row)
        chooser.close(row)
    seen = kinds[NEAR] + kinds[RANDOM]
    assert len(set(seen)) == 100
    assert 15 <= len(kinds[RANDOM]) <= 45
    assert all(pool.values[row] >= 0.6 for row in kinds[RANDOM])
    # Random ones reach far beyond those near the threshold.
    assert max(pool.values[row] for row in kinds[RANDOM]) > 0.9
    distance = np.sort(np.abs(pool.values - 0.6))
    assert max(abs(pool.values[row] - 0.6) for row in kinds[NEAR]) <= distance[-100]


def test_proposals_are_spread_over_the_texts() -> None:
    pool = drawn_pool()
    # Half of the pairs are copies of one.
    pool.vectors_a[::2], pool.vectors_b[::2] = pool.vectors_a[0], pool.vectors_b[0]
    chooser = Chooser(pool, 0.5, random_share=0, seed=0)
    copies = 0
    for done in range(40):
        row, _ = chooser.choose(done) or (0, "")
        copies += row % 2 == 0
        chooser.close(row)
    assert copies <= 2


def test_the_threshold_follows_the_labels() -> None:
    pool = drawn_pool()
    chooser = Chooser(pool, 0.2, random_share=0, seed=0)
    values = np.linspace(0, 1, 60)
    chooser.follow(values, (values > 0.7).astype(np.int64))
    assert 0.6 < chooser.threshold < 0.8
    chooser.follow(values[:5], np.ones(5, dtype=np.int64))
    assert chooser.threshold == 0.2


def test_the_interval_contains_the_share_and_shrinks() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(9, 10)
    assert low < 0.9 < high
    assert (low, high) == pytest.approx((0.596, 0.982), abs=0.002)
    assert wilson(90, 100)[0] > low


def test_the_learning_curve_says_when_labels_stop_paying() -> None:
    random = np.random.default_rng(0)

    def curve(count: int) -> Curve:
        x = random.normal(size=(count, 3))
        label = (x[:, 0] + 0.5 * x[:, 1] + 0.7 * random.normal(size=count) > 0).astype(np.int64)
        found = learning_curve(x, label)
        assert found is not None
        return found

    many = curve(2000)
    assert not many.pays
    few = [curve(60) for _ in range(9)]
    assert np.mean([found.half - found.full for found in few]) > 0.01 > many.half - many.full
    assert any(found.pays for found in few)
    assert learning_curve(np.zeros((20, 3)), np.ones(20, dtype=np.int64)) is None
    assert features(np.array([0.5]), ["a b"], ["b c"]).tolist() == [[0.5, 1 / 3, 1.0]]


def open_session(folder: Path, pool: Pool) -> Session:
    files = (LabelFile(folder / "labels.csv"), LabelFile(folder / "labels.csv.unsure.csv"))
    return Session(Chooser(pool, 0.5, random_share=0.2, seed=0), *files)


def test_answers_are_written_undone_and_not_asked_again(tmp_path: Path) -> None:
    pool = drawn_pool(30)
    session = open_session(tmp_path, pool)
    assert not session.undo()
    first = session.shown
    assert first is not None
    assert session.answer(first.row, "match")
    assert not session.answer(first.row, "match")
    second = session.shown
    assert second is not None and second.row != first.row
    assert session.answer(second.row, "unsure")
    assert session.undo()
    assert session.shown == second
    assert session.undo()
    assert session.shown == first
    seen = []
    while session.shown is not None:
        seen.append(session.shown.row)
        session.answer(session.shown.row, ("match", "none", "unsure")[len(seen) % 3])
    assert sorted(seen) == list(range(30))
    assert session.state()["pair"] is None
    assert "20 labels, 10 of them matches; 10 left open." in session.progress()[0]
    assert any("95% interval" in line for line in session.progress())


def test_answers_from_two_windows_at_once_are_written_once(tmp_path: Path) -> None:
    session = open_session(tmp_path, drawn_pool(200))
    accepted = []

    def press() -> None:
        for _ in range(50):
            shown = session.shown
            assert shown is not None
            if session.answer(shown.row, "match"):
                accepted.append(shown.row)

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(accepted)) == len(accepted) == session.done


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in TEXTS if text.strip())])
    return path


def test_labelling_in_the_terminal_continues_where_it_stopped(tiny_matcher: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    command = ["label", str(table), "--matcher", str(tiny_matcher), "--out", str(out), "--terminal", "--device", "cpu"]
    done = CliRunner().invoke(cli, command, input="mnuzxq")
    assert done.exit_code == 0, done.stderr
    assert "2 labels, 1 of them matches; 0 left open." in done.stdout
    with LabelFile(out) as file:
        before = list(file.labels)
    done = CliRunner().invoke(cli, command, input="mq")
    assert "3 labels, 2 of them matches" in done.stdout
    with LabelFile(out) as file:
        assert file.labels[:2] == before
        assert len({(one.text_a, one.text_b) for one in file.labels}) == 3
        done = CliRunner().invoke(cli, command, input="q")
    assert done.exit_code == 1
    assert "another 'flipkd label' is writing it" in done.stderr


def test_a_matcher_or_a_teacher_is_needed(table: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["label", str(table), "--out", str(tmp_path / "labels.csv")])
    assert done.exit_code == 2
    assert "name either --matcher or --teacher" in done.stderr


def test_a_teacher_proposes_pairs_where_there_is_no_matcher(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="teachers need: pip install 'flipkd-sdk[train]'")
    teacher = ROOT / "training" / "models" / "fixtures" / "teacher_0_1"
    out = tmp_path / "labels.csv"
    command = ["label", str(table), str(table), "--teacher", str(teacher), "--out", str(out), "--terminal"]
    done = CliRunner().invoke(cli, command, input="mnq")
    assert done.exit_code == 0, done.stderr
    with LabelFile(out) as file:
        assert [one.label for one in file.labels] == ["1", "0"]
        assert all(-1 <= float(one.score) <= 1 for one in file.labels)
