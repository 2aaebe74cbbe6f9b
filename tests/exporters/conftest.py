from __future__ import annotations

import functools
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from families import FAMILIES, Exported, exported
from tiny_models import write_tiny_run

from flipkd_sdk.artifact.limits import LIMITS
from flipkd_sdk.exporters import export
from flipkd_sdk.exporters.export import ExportOptions
from flipkd_sdk.exporters.graph.translation import export_graph
from flipkd_sdk.exporters.verification import widen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import onnx_ir as ir

    from flipkd_sdk.exporters.encoders.encoder_path import EncoderPath

WIDE = {
    "int8.spearman": 0.5,
    "int8.max_cosine_change": 0.5,
    "int8.average_precision_change": 0.5,
    "int8.alone_vs_batched": 1e-5,
    "fp32.alone_vs_batched": 1e-5,
    "fp16.spearman": 0.5,
    "fp16.max_cosine_change": 0.1,
    "fp16.average_precision_change": 0.5,
    "int4.spearman": 0.0,
    "int4.max_cosine_change": 1.0,
    "int4.average_precision_change": 0.5,
    "int4.alone_vs_batched": 1e-5,
}
"""A toy student's cosines lie so close together that any rounding changes their order, and its curve is so steep that
the last digits of a cosine show in the score."""


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; and toy models are fastest on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FLIPKD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Exports a family when it is first asked for."""
    directory = tmp_path_factory.mktemp("families")
    return functools.cache(lambda name: exported(directory / name, name))


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest, exports: Callable[[str], Exported]) -> Exported:
    return exports(request.param)


@pytest.fixture(scope="session")
def llama(exports: Callable[[str], Exported]) -> Exported:
    return exports("Llama")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run directory; tests that change it must copy it."""
    return write_tiny_run(tmp_path_factory.mktemp("runs") / "run", student={"layer": 1, "rank": 4, "site_rank": 16})


@pytest.fixture(scope="session")
def wide() -> ExportOptions:
    return ExportOptions(variants=("int8", "fp32"), limits=widen(LIMITS, WIDE))


@pytest.fixture(scope="session")
def first_export(
    tiny_run: Path, wide: ExportOptions, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ir.Model]:
    out = tmp_path_factory.mktemp("matchers") / "matcher"
    graphs = []

    def export_and_remember(path: EncoderPath) -> ir.Model:
        graph = export_graph(path)
        graphs.append(graph.clone())
        return graph

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(export, "export_graph", export_and_remember)
        export.export(tiny_run, out, wide)
    return out, graphs[0]


@pytest.fixture(scope="session")
def exported_matcher(first_export: tuple[Path, ir.Model]) -> Path:
    """Exported once from the tiny run; tests that change it must copy it."""
    return first_export[0]


@pytest.fixture(scope="session")
def every_variant(
    first_export: tuple[Path, ir.Model], tiny_run: Path, wide: ExportOptions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A matcher of the tiny run in all precisions; tests that change it must copy it."""
    out = tmp_path_factory.mktemp("matchers") / "matcher"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(export, "export_graph", lambda _: first_export[1].clone())
        export.export(tiny_run, out, ExportOptions(variants=export.PRECISIONS, limits=wide.limits))
    return out


@pytest.fixture
def same_graph(first_export: tuple[Path, ir.Model], monkeypatch: pytest.MonkeyPatch) -> None:
    """Translating takes most of an export; this one has the tiny run's graph at hand."""
    monkeypatch.setattr(export, "export_graph", lambda _: first_export[1].clone())


@pytest.fixture
def run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run")
