"""Candidates on disk: a directory of three plain files, none of which is ever unpickled.

``candidates.json``
    format version, identity of the matcher, number and dimension of the vectors, hashes of the other files.
``texts.jsonl``
    the texts in order, one JSON string a line.
``vectors.npy``
    their vectors in the same order, float32, in numpy's own format.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from flipkd_sdk.artifact import strict_json
from flipkd_sdk.artifact.manifest import sha256_of
from flipkd_sdk.atomic import atomic_directory, check_directory
from flipkd_sdk.errors import CandidateSetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FORMAT_VERSION = 2
"""Version of the directory format that this release writes; every older one is read.

Version 1 has no hash of the vectors.
"""

MANIFEST_FILE = "candidates.json"
TEXTS_FILE = "texts.jsonl"
VECTORS_FILE = "vectors.npy"

_MAX_MANIFEST_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 28
"""Longest text as JSON. Without a limit a sparse file, which claims any size, would fill the memory."""
_BLOCK_BYTES = 1 << 22
_LENGTH_TOLERANCE = 0.01
"""Largest deviation of a vector's length from 1. A half-precision model deviates by 0.001."""


@dataclass(frozen=True, slots=True)
class CandidatesManifest:
    """Content of ``candidates.json``."""

    format_version: int
    matcher: str
    """`Matcher.identity` of the matcher that encoded the texts."""
    count: int
    dimension: int
    texts_sha256: str
    vectors_sha256: str | None
    """None in directories of format version 1."""


def write_candidates(
    path: str | Path, texts: Sequence[str], vectors: NDArray[np.float32], *, identity: str, overwrite: bool
) -> None:
    """Write a directory of candidates under a temporary name and rename it.

    Raises:
        OutputExistsError: the path exists, and ``overwrite`` is False or it is no directory of candidates.
        OSError: the directory cannot be written.
    """
    check_directory(Path(path), overwrite=overwrite, foreign=_foreign, option="overwrite=True")
    with atomic_directory(Path(path)) as part:
        with (part / TEXTS_FILE).open("w", encoding="ascii", newline="\n") as lines:
            # ASCII keeps line separators and lone surrogates inside the strings.
            lines.writelines(json.dumps(text) + "\n" for text in texts)
        with (part / VECTORS_FILE).open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        hashes = [sha256_of(part / name) for name in (TEXTS_FILE, VECTORS_FILE)]
        manifest = CandidatesManifest(FORMAT_VERSION, identity, *vectors.shape, *hashes)
        (part / MANIFEST_FILE).write_text(json.dumps(dataclasses.asdict(manifest), indent=2) + "\n", encoding="ascii")


def _foreign(path: Path) -> str | None:
    return None if (path / MANIFEST_FILE).is_file() else "not a directory of candidates"


def read_candidates(
    path: str | Path, *, identity: str, dimension: int, mmap: bool = False
) -> tuple[list[str], NDArray[np.float32]]:
    """Read the texts and the vectors, shape (n, ``dimension``), of a directory that `write_candidates` made.

    Args:
        path: the directory.
        identity: the expected `Matcher.identity`.
        dimension: the expected dimension of the vectors.
        mmap: check the vectors and map them into memory, instead of reading them.

    Raises:
        CandidateSetError: the path is no such directory, was changed, or belongs to another matcher or a newer release.
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
    texts = _read_texts(files[TEXTS_FILE], manifest)
    if len(texts) != manifest.count:
        raise CandidateSetError(f"{path}: {len(texts)} texts instead of {manifest.count}; save the candidates again")
    with files[VECTORS_FILE].open("rb") as content:
        vectors = _read_vectors(content, manifest, mmap=mmap)
    return texts, vectors


def _read_manifest(path: Path) -> CandidatesManifest:
    try:
        with path.open("rb") as file:
            content: Any = strict_json.parse(file.read(_MAX_MANIFEST_BYTES))
    except (ValueError, RecursionError) as error:
        raise CandidateSetError(f"{path}: not valid JSON ({error}); save the candidates again") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise CandidateSetError(f"{path}: no format version; not made by CandidateSet.save")
    if version > FORMAT_VERSION:
        raise CandidateSetError(
            f"{path}: format version {version} is newer than this release reads ({FORMAT_VERSION}); upgrade flipkd-sdk"
        )
    fields = typing.get_type_hints(CandidatesManifest) | {"vectors_sha256": str}
    absent: dict[str, Any] = {}
    if version == 1:
        del fields["vectors_sha256"]
        absent["vectors_sha256"] = None
    if content.keys() != fields.keys() or any(type(content[name]) is not kind for name, kind in fields.items()):
        raise CandidateSetError(f"{path}: expected the keys {', '.join(fields)} alone, numbers and strings")
    return CandidatesManifest(**content, **absent)


def _read_texts(path: Path, manifest: CandidatesManifest) -> list[str]:
    """Read and check the texts in one pass, so that what was checked is what is returned."""
    hashed, lines = hashlib.sha256(), []
    with path.open("rb") as file:
        while line := file.readline(_MAX_LINE_BYTES + 1):
            if len(line) > _MAX_LINE_BYTES:
                raise CandidateSetError(f"{path}: a line of more than {_MAX_LINE_BYTES:,} bytes; the file was changed")
            hashed.update(line)
            lines.append(line)
    if hashed.hexdigest() != manifest.texts_sha256:
        raise CandidateSetError(f"{path}: its SHA-256 differs from the manifest's; the file was changed")
    return [_text(line, path) for line in lines]


def _text(line: bytes, path: Path) -> str:
    try:
        text = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise CandidateSetError(f"{path}: contains a line that is not a JSON string; save the candidates again")
    return text


def _read_vectors(file: BinaryIO, manifest: CandidatesManifest, *, mmap: bool) -> NDArray[np.float32]:
    """Read and check the vectors in one pass, so that what was checked is what is returned."""
    shape = manifest.count, manifest.dimension
    # Before memory is taken for the number of vectors that the files claim.
    size = os.fstat(file.fileno()).st_size
    header = _header(file, shape)
    if size != len(header) + 4 * shape[0] * shape[1]:
        raise CandidateSetError(
            f"{file.name}: {size} bytes do not fit {shape[0]} vectors; the file was cut or extended"
        )
    hashed, unit_length = hashlib.sha256(header), True
    rows = max(1, _BLOCK_BYTES // (4 * shape[1]))
    vectors = np.empty((min(rows, shape[0]) if mmap else shape[0], shape[1]), dtype=np.float32)
    for start in range(0, shape[0], rows):
        count = min(rows, shape[0] - start)
        block = vectors[:count] if mmap else vectors[start : start + count]
        if file.readinto(block.view(np.uint8).data) != block.nbytes:  # type: ignore[attr-defined]
            raise CandidateSetError(f"{file.name}: was cut while it was read; save the candidates again")
        hashed.update(block.view(np.uint8).data)
        # Written so that NaN fails.
        unit_length &= bool((np.abs(np.linalg.norm(block, axis=1) - 1) <= _LENGTH_TOLERANCE).all())
    if manifest.vectors_sha256 is not None and hashed.hexdigest() != manifest.vectors_sha256:
        raise CandidateSetError(f"{file.name}: its SHA-256 differs from the manifest's; the file was changed")
    if not unit_length:
        raise CandidateSetError(f"{file.name}: contains a vector whose length is not 1; save the candidates again")
    if mmap and shape[0]:
        return np.memmap(file, dtype=np.float32, mode="r", offset=len(header), shape=shape)
    return vectors


def _header(file: BinaryIO, shape: tuple[int, int]) -> bytes:
    """Return the header of numpy's format, having read past it."""
    try:
        np.lib.format.read_magic(file)
        found = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # numpy's reader of damaged headers raises errors of any kind
        raise CandidateSetError(
            f"{file.name}: not an array in numpy's format ({error}); save the candidates again"
        ) from error
    if found != (shape, False, np.dtype("<f4")):
        raise CandidateSetError(
            f"{file.name}: {found[2]} vectors of shape {found[0]} instead of float32 {shape}; the files do not belong "
            "together"
        )
    length = file.tell()
    file.seek(0)
    return file.read(length)
