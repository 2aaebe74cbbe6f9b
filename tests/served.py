"""A running ``flipkd serve`` or ``flipkd label`` for tests."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLIPKD = [sys.executable, "-m", "flipkd_sdk"]


@contextlib.contextmanager
def running(*arguments: str | Path, key: str | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a command that prints its address; yield the address and the process, which is killed in the end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if key is not None:
        environment["FLIPKD_SERVE_API_KEY"] = key
    command = [*FLIPKD, *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    address = None
    for line in process.stderr:
        lines.append(line)
        if address := re.search(r"http://\S+", line):
            break
    # The pipe must not fill up.
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        assert address is not None, "".join(lines)
        yield address[0], process
    finally:
        process.kill()
        process.wait()
