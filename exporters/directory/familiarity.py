"""Sketch of the training texts in a new matcher, from vectors of the variant that it runs by default."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.familiarity import FILE, fit_sketch, write_sketch
from flipkd_sdk.artifact.manifest import FamiliarityFile, sha256_of
from flipkd_sdk.runtimes.matcher import Matcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flipkd_sdk.artifact.manifest import Manifest

logger = logging.getLogger("flipkd_sdk.exporters")


def add_familiarity(manifest: Manifest, working: Path, train: Sequence[str], dev: Sequence[str]) -> Manifest:
    """Write the sketch and return the manifest with it; without training texts there is none.

    Args:
        manifest: of the finished variants; written in the working directory.
        working: the working directory.
        train: distinct training texts.
        dev: distinct texts held out from training.
    """
    if not train:
        return manifest
    logger.info("encoding %d training texts for the familiarity sketch", len(train))
    with Matcher.load(working, device="cpu", on_truncate="ignore", head=False) as matcher:
        sketch = fit_sketch(matcher.encode(train), matcher.encode(dev))
    file = working / FILE
    write_sketch(file, sketch)
    described = FamiliarityFile(file.name, sha256_of(file), file.stat().st_size, len(train), len(dev))
    return replace(manifest, familiarity=described)
