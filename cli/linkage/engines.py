"""Engines for tables: this process, or Ray."""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flipkd_sdk.cli.linkage.encoding import Engine


def check_engine(engine: str, workers: int | None, search_with: str | None = None) -> None:
    """Check that ``--workers`` and ``--search-with`` go with the engine.

    Raises:
        click.UsageError: the local engine has no workers, or Ray would need a second matcher.
    """
    if search_with is not None and engine == "ray":
        raise click.UsageError("--search-with is for --engine local")
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
    search_with: str | None = None,
) -> Iterator[Engine]:
    """Load the matcher in this process, or start a pool of Ray actors that load it.

    With ``search_with``, another matcher proposes the pairs that it scores.
    """
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

    with ExitStack() as stack:
        load = functools.partial(Matcher.load, device=device, threads=threads, on_blank=on_blank)
        searching = None if search_with is None else stack.enter_context(load(search_with))
        opened = stack.enter_context(load(matcher, precision=precision))
        yield LocalTableEngine(opened, searching, on_blank=on_blank)
