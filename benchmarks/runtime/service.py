"""Ten thousand requests to the service of the examples, over HTTP, from 32 callers at once."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click

from runtime.setting import BENCHMARKS

if TYPE_CHECKING:
    from runtime.setting import Setting

_PROGRAM = BENCHMARKS.parent / "examples" / "service" / "load.py"
_CALLERS = 32


def service(setting: Setting) -> dict[str, Any]:
    """What the example's own load run finds; service and callers share the machine."""
    if missing := [name for name in ("fastapi", "uvicorn", "httpx") if importlib.util.find_spec(name) is None]:
        raise click.ClickException(f"{missing[0]} is not installed; run: pip install fastapi uvicorn httpx")
    requests = setting.size(10_000)
    command = [sys.executable, _PROGRAM, "--requests", str(requests), "--callers", str(_CALLERS), "--json"]
    done = subprocess.run([*command, "--matcher", setting.matcher], stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        raise click.ClickException(f"{_PROGRAM} ended with {done.returncode}")
    found = json.loads(done.stdout)
    return {
        **found,
        "target": "no failure, every score the matcher's own to 1e-6, memory at the end at most 5% above the warm-up's",
        "met": found["passed"],
    }
