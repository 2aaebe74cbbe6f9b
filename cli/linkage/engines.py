"""Engines for tables: this process, or Ray."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flipkd_sdk.cli.linkage.encoding import Engine


def check_engine(engine: str, workers: int | None) -> None:
    """Check that ``--workers`` goes with the engine.

    Raises:
        click.UsageError: the local engine has no workers.
    """
    if workers is not None and engine == "local":
        raise click.UsageError("--workers is for --engine ray; use --threads")


@contextmanager
def open_engine(
    matcher: str,
    *,
    engine: str,
    workers: int | None,
    device: str,
    precision: str,
    threads: int | None,
    on_blank: Literal["zero", "score"],
) -> Iterator[Engine]:
    """Load the matcher in this process, or start a pool of Ray actors that load it."""
    if engine == "ray":
        from flipkd_sdk.cli.linkage.ray_engine import RayTableEngine
        from flipkd_sdk.cli.scoring.ray_engine import WorkerOptions, ray_engine

        placed = WorkerOptions(
            device=device, precision=precision, threads=threads or 1, cache_size=0, on_blank=on_blank
        )
        # The workers may run in another folder, or on another machine where the matcher has the same path.
        with ray_engine(str(Path(matcher).resolve()), placed, workers=workers) as pool:
            yield RayTableEngine(pool, on_blank=on_blank)
        return
    from flipkd_sdk.cli.linkage.local_engine import LocalTableEngine
    from flipkd_sdk.runtimes.matcher import Matcher

    with Matcher.load(matcher, device=device, precision=precision, threads=threads, on_blank=on_blank) as opened:
        yield LocalTableEngine(opened, on_blank=on_blank)
