"""Runs cases in this process: one line of JSON on standard output for each, and a finding for what must not happen."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import re
import resource
import struct
import sys
import sysconfig
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
from fuzz.readers import READERS, Bench, WrongResultError
from fuzz.run import RESIDENT_LIMIT
from hypothesis import HealthCheck, Phase

import flipkd_sdk
from flipkd_sdk.errors import FlipKDError

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS_SPACE = 4 << 30
"""Keeps a case that takes too much from taking the machine's memory."""
IN_OPEN, IN_ISDIR = 0x20, 0x40000000
_NOTICE = struct.Struct("iIII")
GENERATED = 5
FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "pickle.find_class")
CODE = tuple(
    str(Path(path).resolve())
    for path in {*sys.path, sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *flipkd_sdk.__path__}
    if path and Path(path).is_dir() and Path(path).resolve() != Path(__file__).parents[1]
)
SYSTEM = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo", "/usr/lib/")


class Guard:
    """Detects files opened outside the case's directory, connections, programs and unpickling.

    Python's audit events cover what Python opens. The operating system reports openings of planted files, which cover
    what C++ libraries open.
    """

    def __init__(self, allowed: Path, planted: list[Path]) -> None:
        self._allowed = str(allowed)
        self._armed = False
        self._found: list[str] = []
        libc = ctypes.CDLL(None, use_errno=True)
        self._notices = libc.inotify_init1(os.O_NONBLOCK)
        for path in planted:
            if libc.inotify_add_watch(self._notices, os.fsencode(path), IN_OPEN) < 0:
                raise OSError(ctypes.get_errno(), "cannot be watched", str(path))
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.path.abspath(os.fsdecode(arguments[0])))  # noqa: PTH100 - Path would be slower
            if not path.startswith((self._allowed, *CODE, *SYSTEM)):
                self._found.append(f"open {path}")
        elif event.startswith(FORBIDDEN):
            self._found.append(f"{event} {arguments!r}"[:200])

    def __enter__(self) -> Guard:
        self._found.clear()
        self._opened()
        self._armed = True
        return self

    def __exit__(self, *_: object) -> None:
        self._armed = False

    def _opened(self) -> list[str]:
        """Return the names of planted files that were opened; other programs may list the directories."""
        try:
            notices = os.read(self._notices, 1 << 16)
        except BlockingIOError:
            return []
        names = []
        while notices:
            _, mask, _, length = _NOTICE.unpack_from(notices)
            name = notices[_NOTICE.size : _NOTICE.size + length].rstrip(b"\0").decode(errors="replace")
            notices = notices[_NOTICE.size + length :]
            if not mask & IN_ISDIR:
                names.append(name or "weights.bin of the matcher")
        return names

    def found(self) -> str | None:
        """Return what was detected since the guard was entered."""
        self._found += [f"a library opened a planted file: {name}" for name in self._opened()]
        return "; ".join(self._found) or None


def peak() -> int:
    """Return the most bytes that this process had resident."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def run_case(bench: Bench, guard: Guard, reader: str, content: bytes) -> dict[str, Any]:
    """Read one case; the result has ``finding`` if something happened that must not."""
    started = time.perf_counter()
    outcome: dict[str, Any] = {"outcome": "accepted"}
    try:
        with guard:
            READERS[reader].read(bench, content)
    except FlipKDError:
        outcome = {"outcome": "refused"}
    except WrongResultError as error:
        outcome = {"finding": "wrong result", "detail": str(error)}
    except BaseException as error:  # noqa: BLE001 - the panics of Rust libraries are no Exception
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "fuzz" not in frame.filename and "site-packages" not in frame.filename]
        where = f"{Path(own[-1].filename).name}:{own[-1].name}" if own else "?"
        outcome = {"finding": "traceback", "detail": f"{type(error).__name__} in {where}: {str(error)[:200]}"}
    if "finding" not in outcome and (outside := guard.found()):
        outcome = {"finding": "outside", "detail": outside}
    outcome["seconds"] = time.perf_counter() - started
    outcome["peak"] = peak()
    if outcome["peak"] > RESIDENT_LIMIT and "finding" not in outcome:
        outcome |= {"finding": "memory", "detail": f"{outcome['peak']:,} bytes resident"}
    bench.clear()
    return outcome


def cases(bench: Bench, name: str, seed: int, count: int) -> Iterator[bytes]:
    """Make the cases of a batch, one batch in five by hypothesis if the reader has a strategy."""
    reader = READERS[name]
    made: list[bytes] = []
    if reader.generated is not None and seed % GENERATED == 0:

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(reader.generated)
        def collect(content: bytes) -> None:
            made.append(content)

        collect()
        yield from made
        return
    valid = reader.valid(bench)
    for index in range(count):
        rng = random.Random(f"{name} {seed} {index}")  # noqa: S311 - not for cryptography
        yield reader.mutate(rng, rng.choice(valid), reader.words)


def prepare(base: Path) -> tuple[Bench, Guard]:
    """Plant files that nothing may open around the bench, and go where a relative path would find one."""
    canary = base / "canary"
    canary.mkdir(parents=True)
    for folder in (base, canary):
        for name in ("weights.bin", "secret"):
            (folder / name).write_bytes(bytes(64))
    os.chdir(canary)
    bench = Bench.create(base / "case")
    planted = [base / "weights.bin", base / "secret", canary, bench.matcher / "weights.bin"]
    return bench, Guard(bench.directory, planted)


def main() -> None:
    """Answer requests on standard input: batches to make and run, or files to run again."""
    base, limit = Path(sys.argv[1]), (ADDRESS_SPACE, ADDRESS_SPACE)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # Libraries that print would break the answers.
    os.dup2(2, 1)
    bench, guard = prepare(base)
    current = base / "current"
    for reader in READERS.values():
        # Everything that valid files need is imported before anything is measured.
        for content in reader.valid(bench):
            with contextlib.suppress(FlipKDError):
                reader.read(bench, content)
            bench.clear()
    resource.setrlimit(resource.RLIMIT_AS, limit)
    answers.write(json.dumps({"ready": peak()}) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        name = request["reader"]
        if "file" in request:
            batch: Iterator[bytes] = iter([Path(request["file"]).read_bytes()])
        else:
            batch = cases(bench, name, request["seed"], request["count"])
        for index, content in enumerate(batch):
            current.write_bytes(content)
            answers.write(json.dumps({"start": index}) + "\n")
            result = run_case(bench, guard, name, content)
            if "finding" in result:
                result["content"] = content.hex()
            answers.write(json.dumps(result) + "\n")
        answers.write(json.dumps({"done": True}) + "\n")


if __name__ == "__main__":
    main()
