"""Several processes and threads at once: on one output, one resume file, one directory and one matcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny import TEXTS, write_tiny_matcher

from flipkd_sdk.atomic import atomic_directory, atomic_file
from flipkd_sdk.errors import (
    CandidateSetError,
    FlipKDError,
    MatcherClosedError,
    MatcherDirectoryError,
    OutputExistsError,
)
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.search.candidates import CandidateSet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """Run ``work`` in threads that start at the same moment; returns results, or errors of this package."""
    start = threading.Barrier(count)

    def run(index: int) -> object:
        start.wait()
        try:
            return work(index)
        except FlipKDError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of files")
def test_one_of_several_processes_writes_an_output(tiny_matcher: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "p.csv", tmp_path / "out.csv"
    table.write_text("text_a,text_b\n" + "".join(f"card {i},pin {i}\n" for i in range(300)))
    command = [sys.executable, "-m", "flipkd_sdk", "score", str(tiny_matcher), str(table), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    printed = [run.communicate(timeout=120)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1, 1]
    for run, stderr in zip(runs, printed, strict=True):
        assert run.returncode == 0 or stderr.splitlines()[-1].startswith("flipkd: error: ")
    assert len(out.read_text().splitlines()) == 301
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "p.csv"]


@pytest.mark.parametrize("exclusive", [True, False])
def test_threads_that_write_one_file_leave_one_whole_content(tmp_path: Path, exclusive: bool) -> None:
    def write(index: int) -> None:
        for _ in range(20):
            try:
                with atomic_file(tmp_path / "out", exclusive=exclusive) as file:
                    for _ in range(10):
                        file.write(bytes([index]) * 1000)
            except OutputExistsError:
                assert exclusive

    together(4, write)
    content = (tmp_path / "out").read_bytes()
    assert (len(content), len(set(content))) == (10_000, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_threads_that_write_one_directory_leave_one_whole_content(tmp_path: Path) -> None:
    def write(index: int) -> None:
        for _ in range(20):
            try:
                with atomic_directory(tmp_path / "out") as working:
                    for name in "ab":
                        (working / name).write_text(str(index))
            except OSError:
                pass  # another one has moved the old directory away

    together(3, write)
    if (tmp_path / "out").exists():
        assert (tmp_path / "out" / "a").read_text() == (tmp_path / "out" / "b").read_text()
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_threads_get_the_scores_that_one_thread_gets(tiny_matcher: Path) -> None:
    pairs = [(a, b) for a in TEXTS for b in TEXTS]
    with Matcher.load(tiny_matcher, on_truncate="ignore", cache_size=3) as matcher:
        expected = matcher.score_pairs(pairs)

        def score(index: int) -> np.ndarray:
            order = np.random.default_rng(index).permutation(len(pairs))
            scores = np.empty(len(pairs), np.float32)
            scores[order] = matcher.score_pairs([pairs[i] for i in order], batch_size=1 + index)
            return scores

        for scores in together(8, score):
            np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_a_matcher_that_is_closed_while_it_scores_ends_each_call(tiny_matcher: Path) -> None:
    matcher = Matcher.load(tiny_matcher, on_truncate="ignore")

    def work(index: int) -> object:
        if index == 0:
            matcher.close()
            return None
        return [matcher.score("card", f"pin {i}") for i in range(50)]

    for result in together(6, work)[1:]:
        assert isinstance(result, MatcherClosedError) or len(result) == 50


def test_a_directory_that_is_replaced_while_it_is_loaded_is_read_whole_or_refused(tmp_path: Path) -> None:
    versions = [write_tiny_matcher(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    scores = []
    for version in versions:
        with Matcher.load(version) as matcher:
            scores.append(matcher.score("card", "pin"))
    shared = shutil.copytree(versions[0], tmp_path / "shared")
    done = threading.Event()

    def work(index: int) -> object:
        if index == 0:
            for i in range(40):
                for file in versions[i % 2].iterdir():
                    shutil.copy(file, shared / f"{file.name}.new")
                    (shared / f"{file.name}.new").replace(shared / file.name)
            done.set()
            return None
        results = []
        while not done.is_set():
            try:
                with Matcher.load(shared) as matcher:
                    results.append(matcher.score("card", "pin"))
            except MatcherDirectoryError as error:
                assert "\n" not in str(error)
        return results

    found = [score for results in together(3, work)[1:] for score in results]
    # A model that was exchanged after its check is still one of the two whole files.
    assert all(min(abs(score - expected) for expected in scores) <= 1e-6 for score in found)


def test_candidates_that_are_saved_while_they_are_loaded_are_whole_or_refused(
    tiny_matcher: Path, tmp_path: Path
) -> None:
    path = tmp_path / "candidates"
    with Matcher.load(tiny_matcher, on_truncate="ignore") as matcher:
        few, many = matcher.candidates(TEXTS[:3]), matcher.candidates(TEXTS)
        few.save(path)

        def work(index: int) -> object:
            if index == 0:
                for i in range(30):
                    (many if i % 2 else few).save(path, overwrite=True)
                return []
            sizes = []
            for _ in range(30):
                try:
                    sizes.append(len(CandidateSet.load(path, matcher)))
                except CandidateSetError as error:
                    assert "\n" not in str(error)
                except FileNotFoundError:
                    pass  # between the old directory and the new one
            return sizes

        for sizes in together(3, work):
            assert set(sizes) <= {3, len(TEXTS)}
