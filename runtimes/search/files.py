"""Candidates on disk: a directory of three plain files, none of which is ever unpickled.

``candidates.json``
    format version, the matcher's identity, and how many candidates of how many numbers there are.
``texts.jsonl``
    the texts in order, one JSON string a line.
``vectors.npy``
    their vectors in the same order, float32, as numpy's own format has it; read by mapping it into memory.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact.manifest import sha256_of
from flipkd_sdk.atomic import atomic_directory, check_directory
from flipkd_sdk.errors import CandidateSetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FORMAT_VERSION = 1
"""Version of the directory format that this release writes; every older one is read."""

MANIFEST_FILE = "candidates.json"
TEXTS_FILE = "texts.jsonl"
VECTORS_FILE = "vectors.npy"

_MAX_MANIFEST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class CandidatesManifest:
    """The content of ``candidates.json``."""

    format_version: int
    matcher: str
    """`Matcher.identity` of the matcher that made the vectors."""
    count: int
    dimension: int
    texts_sha256: str
    """The vectors have none: reading a gigabyte to check it would undo the memory mapping."""


def write_candidates(
    path: str | Path, texts: Sequence[str], vectors: NDArray[np.float32], *, identity: str, overwrite: bool
) -> None:
    """Write a directory of candidates under a temporary name and rename it.

    Raises:
        OutputExistsError: something is there, and overwriting it was not asked for or it holds no candidates.
        OSError: it cannot be written.
    """
    check_directory(Path(path), overwrite=overwrite, foreign=_foreign, option="overwrite=True")
    with atomic_directory(Path(path)) as part:
        with (part / TEXTS_FILE).open("w", encoding="ascii", newline="\n") as lines:
            # ASCII keeps line separators and lone surrogates inside the strings.
            lines.writelines(json.dumps(text) + "\n" for text in texts)
        with (part / VECTORS_FILE).open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        count, dimension = vectors.shape
        manifest = CandidatesManifest(FORMAT_VERSION, identity, count, dimension, sha256_of(part / TEXTS_FILE))
        (part / MANIFEST_FILE).write_text(json.dumps(dataclasses.asdict(manifest), indent=2) + "\n", encoding="ascii")


def _foreign(path: Path) -> str | None:
    return None if (path / MANIFEST_FILE).is_file() else "not a directory of candidates"


def read_candidates(path: str | Path, *, identity: str, dimension: int) -> tuple[list[str], NDArray[np.float32]]:
    """Texts and memory-mapped vectors, shape (n, ``dimension``), of a directory that `write_candidates` made.

    Raises:
        CandidateSetError: it is not such a directory, was changed, or belongs to another matcher or a newer release.
    """
    files = {name: Path(path) / name for name in (MANIFEST_FILE, TEXTS_FILE, VECTORS_FILE)}
    for file in files.values():
        if file.is_symlink() or not file.is_file():
            raise CandidateSetError(
                f"{file}: missing or not a plain file; expected a directory made by CandidateSet.save"
            )
    manifest = _read_manifest(files[MANIFEST_FILE])
    if manifest.matcher != identity or manifest.dimension != dimension:
        raise CandidateSetError(
            f"{path}: made by another model, tokenizer, precision or release; encode the texts again with this matcher"
        )
    if sha256_of(files[TEXTS_FILE]) != manifest.texts_sha256:
        raise CandidateSetError(f"{files[TEXTS_FILE]}: its SHA-256 differs from the manifest's; the file was changed")
    with files[TEXTS_FILE].open("rb") as lines:
        texts = [_text(line, files[TEXTS_FILE]) for line in lines]
    vectors = _map_vectors(files[VECTORS_FILE])
    if len(texts) != manifest.count or vectors.dtype != np.float32 or vectors.shape != (manifest.count, dimension):
        raise CandidateSetError(
            f"{path}: {len(texts)} texts and {vectors.dtype} vectors of shape {vectors.shape} instead of "
            f"{manifest.count} and float32 ({manifest.count}, {dimension}); the files do not belong together"
        )
    return texts, vectors


def _read_manifest(path: Path) -> CandidatesManifest:
    fields = typing.get_type_hints(CandidatesManifest)
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_MANIFEST_BYTES))
    except (ValueError, RecursionError) as error:
        raise CandidateSetError(f"{path}: not valid JSON ({error}); save the candidates again") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise CandidateSetError(f"{path}: no format version; not made by CandidateSet.save")
    if version > FORMAT_VERSION:
        raise CandidateSetError(
            f"{path}: format version {version} is newer than this release reads ({FORMAT_VERSION}); upgrade flipkd-sdk"
        )
    if content.keys() != fields.keys() or any(type(content[name]) is not kind for name, kind in fields.items()):
        raise CandidateSetError(f"{path}: expected the keys {', '.join(fields)} alone, numbers and strings")
    return CandidatesManifest(**content)


def _text(line: bytes, path: Path) -> str:
    try:
        text = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise CandidateSetError(f"{path}: holds a line that is not a JSON string; save the candidates again")
    return text


def _map_vectors(path: Path) -> NDArray[np.float32]:
    try:
        vectors: NDArray[np.float32] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy's reader of damaged headers raises whatever comes up
        raise CandidateSetError(
            f"{path}: not an array that can be mapped ({error}); save the candidates again"
        ) from error
    return vectors
