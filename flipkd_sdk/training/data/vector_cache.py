"""Cache of the teacher's vectors on disk: each text is encoded once by a teacher, for all runs."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.atomic import atomic_file
from flipkd_sdk.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.training.models.teacher import Teacher


def cached_vectors(teacher: Teacher, texts: Sequence[str], directory: Path) -> NDArray[np.float32]:
    """Encode texts with the teacher, reading from and adding to its cache file.

    A cache file belongs to one teacher: its name is a hash of everything that changes a vector, and the file contains
    that hash as well.

    Args:
        teacher: the teacher.
        texts: n distinct texts.
        directory: directory of the cache files; created if need be.

    Returns:
        Unit vectors, float32 (n, d).

    Raises:
        TrainingError: the file belongs to another teacher.
    """
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
