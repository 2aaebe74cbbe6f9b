"""Publishing of a matcher directory: written in a working directory beside it, renamed when it is complete."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.manifest import MANIFEST_FILE, read_manifest
from flipkd_sdk.artifact.recalibration import is_earlier_manifest
from flipkd_sdk.atomic import atomic_directory, check_directory
from flipkd_sdk.errors import MatcherDirectoryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CARD_FILE = "README.md"


@contextlib.contextmanager
def publishing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a working directory that is renamed to ``out`` on success and removed on failure.

    Args:
        out: matcher directory to write; new, or an empty directory.
        overwrite: replace an existing matcher directory at the end.

    Raises:
        OutputExistsError: ``out`` exists and may not be replaced.
        OSError: ``out`` cannot be written; the error names ``out``, not the working directory.
    """
    check_directory(out, overwrite=overwrite, foreign=_foreign)
    with atomic_directory(out) as working:
        yield working
        # The export takes minutes, in which another process can write there.
        check_directory(out, overwrite=overwrite, foreign=_foreign)


def _foreign(directory: Path) -> str | None:
    if directory.is_symlink():
        return "a link"
    try:
        manifest = read_manifest(directory)
    except MatcherDirectoryError as error:
        return f"not a matcher directory ({error})"
    own = {MANIFEST_FILE, CARD_FILE, *(entry.file for entry in manifest.files)}
    names = [path.name for path in directory.iterdir() if not is_earlier_manifest(path.name)]
    foreign = sorted(set(names) - own)
    return f"contains {foreign[0]!r}, which is not part of a matcher" if foreign else None
