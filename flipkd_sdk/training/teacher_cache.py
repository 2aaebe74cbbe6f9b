"""The teacher's vectors on disk: a text is shown to a teacher once, however many runs learn from it."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.training.teacher import Teacher


def cached_vectors(teacher: Teacher, texts: Sequence[str], directory: Path) -> NDArray[np.float32]:
    """Encode texts with the teacher, reading from and adding to its cache file.

    A cache file belongs to one teacher: its name is a hash of the weights and of all that changes a vector.

    Args:
        teacher: the teacher.
        texts: n distinct texts.
        directory: where cache files lie; created if need be.

    Returns:
        Unit vectors, float32 (n, d).
    """
    identity = f"{teacher.revision} {teacher.encoder.pooling} {teacher.max_length}"
    file = directory / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npz"
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
    known = _read(file)
    missing = [i for i, key in enumerate(keys) if key not in known]
    if missing:
        vectors = teacher.encode([texts[i] for i in missing], progress="teacher vectors")
        known.update((keys[i], vector) for i, vector in zip(missing, vectors, strict=True))
        _write(file, known)
    return np.stack([known[key] for key in keys])


def _read(file: Path) -> dict[bytes, NDArray[np.float32]]:
    try:
        with np.load(file, allow_pickle=False) as content:
            keys = content["keys"]
            return {key.tobytes(): vector for key, vector in zip(keys, content["vectors"], strict=True)}
    except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError, ValueError):
        return {}  # none yet, or cut short by a full disk: it is made again


def _write(file: Path, known: dict[bytes, NDArray[np.float32]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = np.frombuffer(b"".join(known), dtype=np.uint8).reshape(len(known), -1)
    handle, name = tempfile.mkstemp(dir=file.parent)
    working = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, keys=keys, vectors=np.stack(list(known.values())))
        working.replace(file)
    finally:
        working.unlink(missing_ok=True)
