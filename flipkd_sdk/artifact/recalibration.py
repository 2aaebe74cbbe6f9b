"""Change of the calibration in a matcher directory; the earlier manifests are kept as ``manifest.1.json`` and so on."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.manifest import FORMAT_VERSION, MANIFEST_FILE, checked_file
from flipkd_sdk.atomic import atomic_directory, atomic_file
from flipkd_sdk.errors import OutputExistsError

if TYPE_CHECKING:
    from pathlib import Path

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.evaluation.calibration import Calibration, SearchThreshold

_CARD_FILE = "README.md"
_EARLIER = re.compile(r"manifest\.([1-9]\d{0,5})\.json")
_OF_THE_CALIBRATION = frozenset({"accuracy", "precision", "recall", "f1", "calibration_error"})
"""Figures in the manifest that another calibration changes. The others depend on the order of the scores alone."""


def is_earlier_manifest(name: str) -> bool:
    """Return True if a file of a matcher directory is a manifest from before a change of the calibration."""
    return _EARLIER.fullmatch(name) is not None


def with_calibration(manifest: Manifest, calibration: Calibration, *, head: bool = True) -> Manifest:
    """Return a manifest with another calibration of pairs, without the figures measured with the old one.

    The search threshold accepts the same answers as before.

    Args:
        manifest: the old one.
        calibration: of the pair head if there is one, and the cosine keeps its own.
        head: False for the calibration of the cosine, also beside a pair head.
    """
    calibration = calibration.with_search_of(manifest.pair_calibration if head else manifest.calibration)
    metrics = {
        name: {measure: value for measure, value in values.items() if measure not in _OF_THE_CALIBRATION}
        for name, values in manifest.metrics.items()
    }
    if head and manifest.head is not None:
        return replace(manifest, head=replace(manifest.head, calibration=calibration), metrics=metrics)
    return replace(manifest, calibration=calibration, metrics=metrics)


def with_search(manifest: Manifest, *, cosine: SearchThreshold | None, head: SearchThreshold | None = None) -> Manifest:
    """Return a manifest with other search thresholds: of the cosine's scores, and of the pair head's if there is one.

    The manifest gets the present format version, because older ones have no search threshold.
    """
    changed = replace(manifest, calibration=replace(manifest.calibration, search=cosine), format_version=FORMAT_VERSION)
    if manifest.head is None:
        return changed
    return replace(changed, head=replace(manifest.head, calibration=replace(manifest.head.calibration, search=head)))


def write_in_place(directory: Path, manifest: Manifest) -> Path | None:
    """Replace the manifest of a matcher directory atomically and keep the old one in a numbered file.

    Nothing is written if the manifest is the same.

    Returns:
        The file that contains the old manifest, or None if nothing changed.

    Raises:
        OutputExistsError: another process is writing the manifest.
        OSError: the directory cannot be written; the error names the file.
    """
    path = directory / MANIFEST_FILE
    content = manifest.to_json().encode()
    if path.read_bytes() == content:
        return None
    with atomic_file(path, exclusive=True) as file:
        kept = _keep(directory, path.read_bytes())
        file.write(content)
    return kept


def write_copy(directory: Path, manifest: Manifest, out: Path) -> None:
    """Write a matcher directory with another manifest; the other files are checked and copied.

    Raises:
        OutputExistsError: ``out`` exists and is not an empty directory.
        MatcherDirectoryError: a file is missing or not the one that was exported.
        OSError: ``out`` cannot be written; the error names it.
    """
    check_new(out)
    with atomic_directory(out) as working:
        for entry in manifest.files:
            shutil.copyfile(checked_file(directory, entry), working / entry.file)
        card = directory / _CARD_FILE
        if card.is_file() and not card.is_symlink():
            shutil.copyfile(card, working / _CARD_FILE)
        (working / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        check_new(out)


def check_new(out: Path) -> None:
    """Check that a directory does not exist or is empty.

    Raises:
        OutputExistsError: it exists and is not empty.
    """
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise OutputExistsError(f"{out}: exists already; choose another path")


def _keep(directory: Path, content: bytes) -> Path:
    """Write an earlier manifest to the next number, or return the file that contains it already."""
    # Links count too, so that nothing is written through one.
    earlier = [path for path in directory.iterdir() if is_earlier_manifest(path.name)]
    for path in earlier:
        if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
            return path
    number = 1 + max((int(path.name.split(".")[1]) for path in earlier), default=0)
    kept = directory / f"manifest.{number}.json"
    with atomic_file(kept) as file:
        file.write(content)
    return kept
