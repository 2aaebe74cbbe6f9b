from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flipkd_sdk.runtimes.encoding import encoder
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx import malloc_trim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
from flipkd_sdk.runtimes.onnx import malloc_trim

def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

blocks = [bytes(4000) for _ in range(20_000)]  # 80 MB, too small to be mapped one by one
kept = blocks[-1]  # so that it is not the end of the heap that is free
del blocks
before = resident_mb()
malloc_trim.trim()
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_freed_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 40


REPLACED = """
import sys
from flipkd_sdk.runtimes.onnx import malloc_trim

def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

if sys.argv[1] == "mapped":
    malloc_trim.map_large_blocks()
first = b"x" * (24 << 20)
del first
second = b"x" * (20 << 20)
above = [bytes(4000) for _ in range(1000)]
before = resident_mb()
del second
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_large_block_goes_back_at_once_though_a_larger_one_was_freed_before() -> None:
    freed = {}
    for way in ("mapped", "default"):
        done = subprocess.run([sys.executable, "-c", REPLACED, way], capture_output=True, text=True, check=True)
        freed[way] = float(done.stdout)
    assert freed["mapped"] > 15
    assert freed["default"] < 5, "glibc does so by itself; map_large_blocks is not needed any more"


@pytest.fixture
def _no_trimmer() -> Iterator[None]:
    malloc_trim._trimmer.cache_clear()
    yield
    malloc_trim._trimmer.cache_clear()


@pytest.mark.usefixtures("_no_trimmer")
@pytest.mark.parametrize("where", ["musl", "darwin", "win32"])
def test_where_the_c_library_has_no_such_function_nothing_happens(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    if where == "musl":
        monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    else:
        monkeypatch.setattr(sys, "platform", where)
    malloc_trim.trim()
    malloc_trim.map_large_blocks()


def test_memory_is_given_back_after_many_texts(tiny_matcher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[None] = []
    monkeypatch.setattr(malloc_trim, "trim", lambda: trimmed.append(None))
    monkeypatch.setattr(encoder, "_MANY", 10)
    with Matcher.load(tiny_matcher) as matcher:
        matcher.encode([f"text {number}" for number in range(9)] * 2)
        assert not trimmed
        matcher.encode([f"text {number}" for number in range(10)])
    assert len(trimmed) == 1
