"""Reference vectors of a matcher directory: the output of each variant for a synthetic sample."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.manifest import Manifest, SelfTestFile, sha256_of
from flipkd_sdk.artifact.reference_vectors import SELF_TEST_FILE, SelfTest, write_self_test
from flipkd_sdk.exporters.directory.matcher_directory import write_manifest
from flipkd_sdk.runtimes.load import LoadOptions, open_matcher
from flipkd_sdk.runtimes.reference_vectors import as_tokens, head_numbers, made_up_sample

if TYPE_CHECKING:
    from pathlib import Path


def add_self_test(manifest: Manifest, working: Path) -> Manifest:
    """Run all variants on a synthetic sample and write their reference vectors, and the pair head's numbers.

    Args:
        manifest: manifest of the variants in the working directory.
        working: the working directory.

    Returns:
        The manifest with the reference vectors.

    Raises:
        ExecutionError: a variant cannot be run.
    """
    write_manifest(working, manifest)
    texts = made_up_sample(working, manifest)
    vectors, numbers = {}, {}
    for precision in manifest.variants:
        opened = open_matcher(working, LoadOptions(device="cpu", precision=precision))
        encoded = opened.encoder.encode_with_tokens(as_tokens(texts), with_tokens=opened.head is not None)
        vectors[precision] = encoded.vectors
        if opened.head is not None:
            numbers[precision] = head_numbers(opened.head, texts, encoded)
    file = working / SELF_TEST_FILE
    write_self_test(file, SelfTest(texts, vectors, numbers))
    return replace(manifest, self_test=SelfTestFile(file.name, sha256_of(file), file.stat().st_size))
