"""Node.js with the module of runtimes/javascript, as a process that answers requests."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[3] / "runtimes" / "javascript"


class NodeError(Exception):
    """An error of the module: its code and its message."""


class Node:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, call: str, *args: Any, load: Path | str | None = None, **options: Any) -> Any:
        """Return what a method of a matcher, or with no ``load`` a call of answer.mjs, returns."""
        request = {"call": call, "args": args, "options": options} | ({"load": str(load)} if load is not None else {})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request, default=str) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline())
        if "code" in reply:
            assert "\n" not in reply["message"]
            raise NodeError(f"{reply['code']}: {reply['message']}")
        return reply.get("value")


@contextmanager
def node_process() -> Iterator[Node]:
    """Start Node.js, or skip the test where it or the packages are missing."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node.js is not installed")
    if not (PACKAGE / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("the packages of runtimes/javascript are not installed; run: make javascript")
    command = [program, str(Path(__file__).with_name("answer.mjs"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield Node(process)
        assert process.stdin is not None
        process.stdin.close()
