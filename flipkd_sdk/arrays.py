"""The ``.npz`` files of a matcher directory, which are never unpickled."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from flipkd_sdk.errors import MatcherDirectoryError

if TYPE_CHECKING:
    from pathlib import Path


class Arrays(Protocol):
    """A dataclass of arrays that belong to one dimension."""

    @property
    def dimension(self) -> int:
        """Dimension of the vectors, or size of the vocabulary."""


A = TypeVar("A", bound=Arrays)


def read_arrays(kind: type[A], path: Path, *, what: str, largest: int, dimension: int | None = None) -> A:
    """Read the arrays of a dataclass, by the names of its fields.

    Args:
        kind: the dataclass, which raises `ValueError` for arrays that do not fit together.
        path: the file.
        what: content of the file in error messages.
        largest: most bytes of the file, and of the arrays.
        dimension: of the vectors that the arrays must fit; None if they belong to no vectors.

    Raises:
        MatcherDirectoryError: the file is missing, malformed, or belongs to other vectors.
    """
    try:
        return _read(kind, path, dimension, largest)
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MatcherDirectoryError(f"{path}: not {what} ({reason})") from error


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write the arrays of a dataclass by the names of its fields; the same ones give the same bytes."""
    with path.open("wb") as file:
        np.savez(file, **{name: getattr(arrays, name) for name in _names(type(arrays))})


def _names(kind: type[Arrays]) -> list[str]:
    return [field.name for field in fields(kind)]  # type: ignore[arg-type]  # A protocol cannot ask for a dataclass.


def _read(kind: type[A], path: Path, dimension: int | None, largest: int) -> A:
    names = _names(kind)
    if path.stat().st_size > largest:
        raise ValueError(f"larger than {largest} bytes")
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    # Sizes first: a small archive may unpack to gigabytes.
    if sorted(sizes) != sorted(f"{name}.npy" for name in names) or sum(sizes.values()) > largest:
        raise ValueError("other arrays than expected")
    with np.load(path, allow_pickle=False) as content:
        arrays = kind(**{name: content[name] for name in names})
    if dimension is not None and arrays.dimension != dimension:
        raise ValueError(f"made for vectors of dimension {arrays.dimension} instead of {dimension}")
    return arrays
