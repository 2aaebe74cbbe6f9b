"""Kept cases of `make fuzz` are read or refused, and the fuzzer detects what it looks for."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("pyarrow")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc and inotify")

from fuzz import mutation, run  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEPT = [(path.parent.name, path) for path in sorted(run.CASES.glob("*/*"))]


@pytest.fixture(scope="module")
def replayed() -> dict[Path, dict[str, Any]]:
    return dict(zip([path for _, path in KEPT], run.replay(KEPT), strict=True))


@pytest.mark.parametrize("path", [path for _, path in KEPT], ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_kept_case_is_read_or_refused(path: Path, replayed: dict[Path, dict[str, Any]]) -> None:
    assert replayed[path].get("outcome") in ("accepted", "refused"), replayed[path]


DETECTED = {
    "nothing": ("None", None),
    "an error": ("raise FlipKDError('refused')", None),
    "another error": ("raise KeyError('x')", "traceback"),
    "an exit": ("raise SystemExit(1)", "traceback"),
    "a file outside": ("open('/etc/hostname').read()", "outside"),
    "a relative path": ("open('secret').read()", "outside"),
    "a parent": ("open(bench.directory / '..' / 'secret').read()", "outside"),
    "a file opened by a library": ("libc.fopen(b'weights.bin', b'r')", "outside"),
    "a file of no manifest": ("libc.fopen(os.fsencode(bench.matcher / 'weights.bin'), b'r')", "outside"),
    "unpickling": ("pickle.loads(pickle.dumps(Path('a')))", "outside"),
    "a connection": ("socket.socket(socket.AF_UNIX).connect('x')", "traceback"),
    "a program": ("subprocess.run(['true'])", "outside"),
    "600 MB": ("bytearray(b'x') * 600_000_000", "memory"),
}
DETECT = """
import ctypes, json, os, pickle, socket, subprocess, sys
from pathlib import Path
from flipkd_sdk.errors import FlipKDError
from fuzz import worker
libc = ctypes.CDLL(None)
bench, guard = worker.prepare(Path(sys.argv[1]))
def read(bench, content):
    exec(content)
worker.READERS["test"] = worker.READERS["csv"].__class__(read, lambda _: [], None)
for name, code in json.load(sys.stdin).items():
    print(json.dumps([name, worker.run_case(bench, guard, "test", code)]), flush=True)
"""


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("fuzz")
    done = subprocess.run(
        [sys.executable, "-c", DETECT, str(folder / "worker")],
        env=os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis")},
        input=json.dumps({name: code for name, (code, _) in DETECTED.items()}),
        capture_output=True,
        text=True,
        cwd=run.ROOT / "tests",
        check=True,
    )
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("name", DETECTED)
def test_the_worker_detects(name: str, detected: dict[str, dict[str, Any]]) -> None:
    assert detected[name].get("finding") == DETECTED[name][1], detected[name]


@pytest.mark.parametrize(
    ("program", "finding"),
    [
        ("print('{\"start\": 0}', flush=True); import time; time.sleep(60)", "hang"),
        ("print('{\"start\": 0}', flush=True); import os; os.abort()", "crash"),
    ],
)
def test_the_main_process_detects_hangs_and_crashes(tmp_path: Path, program: str, finding: str) -> None:
    worker = run.Worker(tmp_path / "worker", ("-c", program))
    try:
        assert run.wait(worker, 0.2)["finding"] == finding
    finally:
        worker.end()


def mutate(seed: int, mutator: mutation.Mutator, content: bytes, words: Sequence[bytes]) -> list[bytes]:
    return [mutator(random.Random(f"{seed} {i}"), content, words) for i in range(1000)]  # noqa: S311


@pytest.mark.parametrize(
    ("mutator", "content"),
    [
        (mutation.mutate_bytes, b"text_a,text_b\na,b\n"),
        (mutation.mutate_json, b'{"a": [1, {"b": null}], "c": "d"}'),
        (mutation.mutate_json_lines, b'{"text_a": "a"}\n{"text_a": "b"}\n'),
        (mutation.mutate_protobuf, mutation.encode_field(7, 2, mutation.encode_field(1, 2, b"ab") + b"\x08\x01")),
    ],
)
def test_the_same_seed_makes_the_same_cases(mutator: mutation.Mutator, content: bytes) -> None:
    cases = mutate(1, mutator, content, [b"word"])
    assert cases == mutate(1, mutator, content, [b"word"])
    assert cases != mutate(2, mutator, content, [b"word"])
    assert len(set(cases)) > 100
    assert max(map(len, cases)) <= 2 * mutation.MAX_BYTES
