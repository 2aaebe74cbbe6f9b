"""Small and shut-off machines: nothing to write to, no home, no network, an odd locale, and memory that stays flat."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

USE = r"""
import asyncio, os, sys
from flipkd_sdk import AsyncMatcher, Matcher, MicroBatcher
with Matcher.load(os.environ["MATCHER"]) as matcher:
    scores = [matcher.score("\u5fd8\u8bb0", "reset PIN"), *matcher.score_pairs([("\u00e9", "e"), ("a", "b")])]
    assert matcher.candidates(["\u5fd8\u8bb0", "b"]).rank("\u5fd8\u8bb0")[0].index == 0
    with MicroBatcher(matcher) as batcher:
        assert abs(batcher.score("\u00e9", "e") - scores[1]) <= 1e-6
    async def use():
        async with AsyncMatcher(matcher) as served:
            return await served.score("a", "b")
    assert abs(asyncio.run(use()) - scores[2]) <= 1e-6
    print(*(f"{score:.6f}" for score in scores))
"""


def run(matcher: Path, code: str = USE, *, prefix: Sequence[str] = (), **environment: str) -> str:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code],
        env={"MATCHER": str(matcher), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def expected(tiny_matcher: Path) -> str:
    return run(tiny_matcher)


def unshare(*options: str) -> list[str]:
    """A command that starts another one with a part of the system taken away, or a skip where that is not allowed."""
    command = shutil.which("unshare")
    if command is None:
        pytest.skip("no unshare on this system")
    prefix = [command, "--map-root-user", *options]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"this system does not allow unshare {' '.join(options)}")
    return prefix


def test_without_a_network(tiny_matcher: Path, expected: str) -> None:
    assert run(tiny_matcher, prefix=unshare("--net")) == expected


def test_on_a_read_only_file_system(tiny_matcher: Path, expected: str) -> None:
    script = (
        'for place in / /tmp /dev/shm /run /var/tmp; do mount -o remount,bind,ro "$place" 2>/dev/null; done;'
        '! touch "$MATCHER/x" 2>/dev/null && exec "$@"'
    )
    assert run(tiny_matcher, prefix=[*unshare("--mount"), "sh", "-c", script, "sh"]) == expected


@pytest.mark.parametrize("home", [None, "", "/nonexistent"])
def test_without_a_home_directory(home: str | None, tiny_matcher: Path, expected: str) -> None:
    assert run(tiny_matcher, **({} if home is None else {"HOME": home})) == expected


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
    ],
)
def test_under_any_locale(locale: dict[str, str], tiny_matcher: Path, tmp_path: Path, expected: str) -> None:
    directory = shutil.copytree(tiny_matcher, tmp_path / "匹配")
    assert run(directory, **locale) == expected


def test_under_optimization(tiny_matcher: Path, expected: str) -> None:
    assert run(tiny_matcher, PYTHONOPTIMIZE="2") == expected


def test_limited_cpus_limit_the_threads(tiny_matcher: Path) -> None:
    taskset = shutil.which("taskset")
    if taskset is None or not hasattr(os, "sched_getaffinity"):
        pytest.skip("no taskset on this system")
    cpu = str(min(os.sched_getaffinity(0)))
    code = (
        "import os\n"
        "from flipkd_sdk import Matcher\n"
        "matcher = Matcher.load(os.environ['MATCHER'])\n"
        "matcher.score_pairs([(str(i), 'b') for i in range(200)])\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    # The caller's own, and the one that tokenizers always has.
    assert run(tiny_matcher, code, prefix=[taskset, "-c", cpu]) == "2\n"


MEMORY = """
import os
from flipkd_sdk import Matcher

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def score(matcher, start):
    pairs = [(f"question {i} " + "card " * (i % 17), f"answer {i // 3}") for i in range(start, start + 10_000)]
    matcher.score_pairs(pairs)

with Matcher.load(os.environ["MATCHER"], threads=1, cache_size=1000) as matcher:
    for start in range(0, 50_000, 10_000):
        score(matcher, start)
    before = resident()
    for start in range(50_000, 150_000, 10_000):
        score(matcher, start)
    print(resident() / before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat_over_100_000_scores(tiny_matcher: Path) -> None:
    assert float(run(tiny_matcher, MEMORY)) < 1.05
