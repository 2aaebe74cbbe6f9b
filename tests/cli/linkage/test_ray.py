from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'flipkd-sdk[ray]'")

from flipkd_sdk.cli.linkage import encoding  # noqa: E402
from flipkd_sdk.cli.scoring import ray_engine  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = [["id", "text"], *([i, f"text number {i % 61} of {i % 7}"] for i in range(300))]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.parametrize("command", ["dedupe", "link"])
def test_rows_and_scores_are_those_of_the_local_engine(run, write, tmp_path: Path, monkeypatch, command: str) -> None:
    monkeypatch.setattr(encoding, "_WINDOW", 40)
    tables = [write("a.csv", ROWS), write("b.csv", [ROWS[0], *ROWS[100:140]])][: 1 + (command == "link")]
    outputs = []
    for engine in (("local",), ("ray", "--workers", "2")):
        outputs.append(tmp_path / f"{engine[0]}.csv")
        done = run(command, *tables, "--threshold", "0.8", "--out", outputs[-1], "--engine", *engine)
        assert done.exit_code == 0, done.output
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


@pytest.mark.parametrize("command", ["dedupe", "link"])
def test_a_worker_that_dies_loses_nothing(run, write, tmp_path: Path, monkeypatch, command: str) -> None:
    monkeypatch.setattr(encoding, "_WINDOW", 20)
    tables = [write("a.csv", ROWS), write("b.csv", [ROWS[0], *ROWS[100:140]])][: 1 + (command == "link")]
    assert run(command, *tables, "--threshold", "0.8", "--out", tmp_path / "local.csv").exit_code == 0
    original, killed = ray_engine.RayEngine.mapped, []

    def deadly(self: ray_engine.RayEngine, method: str, tasks: Iterator[object]) -> Iterator[object]:
        for number, found in enumerate(original(self, method, tasks)):
            if number == 2 and method == "encode":
                killed.append(ray.get(self._workers[0].__ray_call__.remote(lambda _: os.getpid())))
                os.kill(killed[0], signal.SIGKILL)
            yield found

    monkeypatch.setattr(ray_engine.RayEngine, "mapped", deadly)
    engine = ("--engine", "ray", "--workers", "2")
    done = run(command, *tables, "--threshold", "0.8", "--out", tmp_path / "r.csv", *engine)
    assert done.exit_code == 0, done.output
    assert killed
    assert (tmp_path / "r.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


def test_a_missing_matcher_is_one_line(write, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from flipkd_sdk.cli.main import cli

    table = write("a.csv", ROWS)
    done = CliRunner().invoke(cli, ["dedupe", str(tmp_path / "no"), str(table), "--out", "-", "--engine", "ray"])
    assert done.exit_code == 1
    assert "no/manifest.json" in done.stderr or "no such" in done.stderr.lower()
