"""The compared systems and their files."""

from __future__ import annotations

import importlib.metadata
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from peers.artifacts import FP32, INT8, TOKENIZER_FILES, onnx_folder, static_folder
from peers.systems import SystemSpec

from flipkd_sdk.artifact.manifest import MANIFEST_FILE, read_manifest
from flipkd_sdk.training.models.sources import weights_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REFERENCE = "onnxruntime int8"
"""Reference of all ratios: the teacher as it is usually deployed on a CPU."""
_ONNXRUNTIME = ("onnxruntime", "tokenizers", "numpy")
_WORDLLAMA_FILES = ("l2_supercat_256.safetensors", "l2_supercat_tokenizer_config.json")


@dataclass(frozen=True)
class Catalog:
    """All systems, in the order of measurement and of the table."""

    specs: tuple[SystemSpec, ...]
    layers: dict[str, int]
    """Number of blocks of each system that is a matcher."""


def catalog(teacher: Path, tuned: Path | None, matchers: list[Path], work: Path) -> Catalog:
    """Return all systems; one that cannot be prepared is included with its reason.

    Args:
        teacher: model directory of the teacher as it is.
        tuned: model directory of the teacher that a run has fine-tuned.
        matchers: matcher directories, each of whose variants is a system.
        work: folder where what the peers run is kept between benchmarks.
    """
    specs = list(_teacher_systems(teacher, work))
    specs += [_wordllama(), SystemSpec("rapidfuzz", "rapidfuzz", "", distributions=("rapidfuzz", "numpy"))]
    if tuned is not None:
        for spec in _teacher_systems(tuned, work):
            if spec.kind in ("onnxruntime", "model2vec"):
                specs.append(replace(spec, name=f"tuned teacher: {spec.name}", tuned=True))
    layers = {}
    for directory in matchers:
        manifest = read_manifest(directory)
        for precision in manifest.variants:
            spec = _matcher(directory, precision)
            specs.append(spec)
            layers[spec.name] = manifest.encoder.layer
    return Catalog(tuple(specs), layers)


def _teacher_systems(teacher: Path, work: Path) -> Iterator[SystemSpec]:
    onnx, onnx_problem = _prepared(onnx_folder, teacher, work)
    static, static_problem = _prepared(static_folder, teacher, work)
    tokenizer = str(teacher / "tokenizer.json")
    graphs = {name: str(onnx / name) if onnx_problem is None else None for name in (FP32, INT8)}
    shipped = tuple(str(onnx / name) for name in TOKENIZER_FILES if (onnx / name).is_file())
    yield SystemSpec(
        "sentence-transformers",
        "sentence-transformers",
        str(teacher),
        distributions=("sentence-transformers",),
        artifacts=(str(weights_file(teacher)), tokenizer),
        graph=graphs[FP32],
        tokenizer=tokenizer,
    )
    for name, file in (("onnxruntime fp32", FP32), (REFERENCE, INT8)):
        yield SystemSpec(
            name,
            "onnxruntime",
            str(onnx),
            file,
            distributions=_ONNXRUNTIME,
            artifacts=(str(onnx / file), str(onnx / "tokenizer.json")),
            graph=graphs[file],
            tokenizer=tokenizer,
            problem=onnx_problem,
        )
    yield SystemSpec(
        "fastembed",
        "fastembed",
        str(onnx),
        FP32,
        distributions=("fastembed",),
        artifacts=(str(onnx / FP32), *shipped),
        graph=graphs[FP32],
        tokenizer=tokenizer,
        problem=onnx_problem,
    )
    yield SystemSpec(
        "model2vec",
        "model2vec",
        str(static),
        distributions=("model2vec",),
        artifacts=tuple(str(static / name) for name in ("model.safetensors", "tokenizer.json", "config.json")),
        tokenizer=str(static / "tokenizer.json"),
        max_length=512,
        problem=static_problem,
    )


def _matcher(directory: Path, precision: str) -> SystemSpec:
    manifest = read_manifest(directory)
    variant = manifest.variant(precision)
    known = {MANIFEST_FILE, "self_test.json", manifest.tokenizer.file, variant.file}
    return SystemSpec(
        f"flipkd {directory.name} {precision}",
        "matcher",
        str(directory),
        precision,
        distributions=("flipkd-sdk[cpu]",),
        artifacts=tuple(str(path) for path in sorted(directory.iterdir()) if path.name in known),
        graph=str(directory / variant.file),
        tokenizer=str(directory / manifest.tokenizer.file),
        max_length=manifest.tokenizer.max_length,
        tuned=True,
    )


def _wordllama() -> SystemSpec:
    spec = SystemSpec("wordllama", "wordllama", "", distributions=("wordllama",), max_length=512)
    try:
        files = importlib.metadata.files("wordllama") or []
    except importlib.metadata.PackageNotFoundError:
        return replace(spec, problem="the package wordllama is not installed")
    shipped = {file.name: str(file.locate()) for file in files if file.name in _WORDLLAMA_FILES}
    if len(shipped) < len(_WORDLLAMA_FILES):
        return replace(spec, problem="this release does not ship its model, and the benchmark uses no network")
    return replace(spec, artifacts=tuple(shipped.values()), tokenizer=shipped[_WORDLLAMA_FILES[1]])


def _prepared(make: Callable[[Path, Path], Path], teacher: Path, work: Path) -> tuple[Path, str | None]:
    logging.disable(logging.WARNING)  # of the exporter and the quantizer, about what is not used here
    try:
        return make(teacher, work), None
    except Exception as error:
        return Path(), f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        logging.disable(logging.NOTSET)
