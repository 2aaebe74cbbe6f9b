"""Cache of a teacher's vectors on disk: each text is encoded once for all runs with that teacher."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.atomic import atomic_file
from flipkd_sdk.errors import TrainingError
from flipkd_sdk.training.models.sources import default_cache_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.training.models.committee import Committee
    from flipkd_sdk.training.models.teacher import Teacher


def cached_vectors(
    teacher: Teacher | Committee, texts: Sequence[str], directory: Path | None = None
) -> NDArray[np.float32]:
    """Return the teacher's vectors of texts, from its cache file if they are there, and add the others to it.

    A cache file belongs to one teacher. Its name is a hash of everything that changes a vector, and the file contains
    the same hash.

    Args:
        teacher: the teacher.
        texts: n distinct texts.
        directory: folder of the cache files, created if need be; the default is shared by all runs of a user.

    Returns:
        Unit vectors, float32 (n, d).

    Raises:
        TrainingError: the file belongs to another teacher.
    """
    directory = directory or default_cache_dir() / "teacher_vectors"
    identity = hashlib.sha256(teacher.identity.encode()).hexdigest()
    file = directory / f"{identity[:32]}.npz"
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
    known = _read(file, identity)
    missing = [i for i, key in enumerate(keys) if key not in known]
    if missing:
        vectors = teacher.encode([texts[i] for i in missing], progress="teacher vectors")
        known.update((keys[i], vector) for i, vector in zip(missing, vectors, strict=True))
        _write(file, known, identity)
    return np.stack([known[key] for key in keys])


def _read(file: Path, identity: str) -> dict[bytes, NDArray[np.float32]]:
    try:
        with np.load(file, allow_pickle=False) as content:
            keys, owner = content["keys"], str(content["teacher"])
            known = {key.tobytes(): vector for key, vector in zip(keys, content["vectors"], strict=True)}
    except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError, ValueError):
        return {}  # A missing or truncated file is written again.
    if owner != identity:
        raise TrainingError(f"{file}: contains the vectors of another teacher; remove it")
    return known


def _write(file: Path, known: dict[bytes, NDArray[np.float32]], identity: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = np.frombuffer(b"".join(known), dtype=np.uint8).reshape(len(known), -1)
    with atomic_file(file) as stream:
        np.savez(stream, keys=keys, vectors=np.stack(list(known.values())), teacher=identity)
