from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli
from flipkd_sdk.cli.tables.sources import Chunk
from flipkd_sdk.errors import ExecutionError, MatcherDirectoryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'flipkd-sdk[ray]'")

from flipkd_sdk.cli.scoring.ray_engine import RayEngine, WorkerOptions, ray_engine  # noqa: E402

OPTIONS = WorkerOptions(device="cpu", precision="auto", threads=1, cache_size=0, on_blank="zero")
PAIRS = [(f"a text, number {i}", f"another text {i % 7}") for i in range(400)]


def chunks(size: int) -> Iterator[Chunk]:
    for start in range(0, len(PAIRS), size):
        some = PAIRS[start : start + size]
        yield Chunk(some, [], start + len(some))


@pytest.fixture(scope="class")
def engine(tiny_matcher: Path) -> Iterator[RayEngine]:
    with ray_engine(str(tiny_matcher), OPTIONS, workers=2) as opened:
        yield opened


class TestPool:
    @pytest.mark.parametrize("deaths", [0, 2])
    def test_each_row_comes_once_and_in_order_though_workers_die(
        self, engine: RayEngine, tiny_matcher: Path, deaths: int
    ) -> None:
        with Matcher.load(tiny_matcher, device="cpu") as matcher:
            expected = matcher.score_pairs(PAIRS)
        found: list[tuple[str, str]] = []
        scores: list[float] = []
        for i, (chunk, some) in enumerate(engine.scored(chunks(10))):
            found += chunk.pairs
            scores += some.tolist()
            if i in range(5, 5 + deaths):
                worker = engine._workers[i % 2]
                process = ray.get(worker.__ray_call__.remote(lambda _: os.getpid()))
                os.kill(process, signal.SIGKILL)
        assert found == PAIRS
        np.testing.assert_allclose(scores, expected, atol=1e-6)

    def test_it_reads_little_ahead(self, engine: RayEngine) -> None:
        served = []

        def counted() -> Iterator[Chunk]:
            for chunk in chunks(2):
                served.append(chunk)
                yield chunk

        for taken, _ in enumerate(engine.scored(counted()), start=1):
            assert len(served) <= taken + 18


def test_ray_does_not_change_the_output(tiny_matcher: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, size in (("a.csv", 300), ("b.csv", 0)):
        rows = "".join(f"{a};{b}\n" for a, b in PAIRS[:size])
        (source / name).write_text("text_a;text_b\n" + rows, encoding="utf-8")
    (source / "c.csv").write_text("text_a,text_b\nragged\nx,y\n", encoding="utf-8")
    for engine_name in ("local", "ray"):
        out = tmp_path / engine_name
        arguments = ["score", str(tiny_matcher), str(source), "--out", str(out), "--on-error", "skip"]
        workers = ["--workers", "2"] if engine_name == "ray" else []
        done = CliRunner().invoke(cli, [*arguments, "--engine", engine_name, *workers])
        assert done.exit_code == 0, done.output
    local, on_ray = (
        {path.name: path.read_bytes() for path in (tmp_path / engine_name).iterdir()}
        for engine_name in ("local", "ray")
    )
    assert set(local) == {f"{name}.csv{suffix}" for name in "abc" for suffix in ("", ".rejects.jsonl")}
    assert {name: local[name] for name in local if "rejects" not in name} == {
        name: on_ray[name] for name in on_ray if "rejects" not in name
    }


def test_errors_in_a_running_ray_are_raised_here(tmp_path: Path) -> None:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with pytest.raises(ExecutionError, match="room for 1 workers of 1 CPU"), ray_engine("m", OPTIONS, workers=2):
            pass
        with (
            pytest.raises(MatcherDirectoryError, match="no such directory"),
            ray_engine(str(tmp_path / "absent"), OPTIONS, workers=None),
        ):
            pass
        assert ray.is_initialized(), "it is not ours to stop"
    finally:
        ray.shutdown()
