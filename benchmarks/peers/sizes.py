"""Disk space of a system: its installed packages with all requirements, and its model files."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Sequence


def installed_bytes(requirements: Sequence[str], *, without: Sequence[str] = ()) -> int:
    """Return the size of distributions and of all their requirements on this platform, in bytes.

    Args:
        requirements: such as ``flipkd-sdk[cpu]``.
        without: files to leave out.
    """
    left_out = {Path(path).resolve() for path in without}
    files = {
        path.resolve()
        for distribution in closure(requirements)
        for file in distribution.files or ()
        if (path := Path(str(file.locate()))).is_file()
    }
    return sum(path.stat().st_size for path in files - left_out)


def closure(requirements: Sequence[str]) -> list[importlib.metadata.Distribution]:
    """Return the distributions of requirements, with their own requirements.

    Raises:
        importlib.metadata.PackageNotFoundError: one of them is not installed.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    pending = [Requirement(text) for text in requirements]
    while pending:
        wanted = pending.pop()
        name = canonicalize_name(wanted.name)
        distribution = found.setdefault(name, importlib.metadata.distribution(wanted.name))
        needed = [Requirement(text) for text in distribution.requires or ()]
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            pending += [part for part in needed if part.marker is None or part.marker.evaluate({"extra": extra})]
    return list(found.values())


def file_bytes(files: Sequence[str]) -> int:
    """Return the size of files in bytes."""
    return sum(Path(file).stat().st_size for file in files)
