"""The self-test: a variant must return the same vectors on this machine as on the exporting one.

Integer kernels differ between instruction sets, and a wrong one reports no error: without VNNI, sums of two products of
unsigned and signed 8-bit values saturate at 16 bits. The measure is the *median* over a sample's texts of the Euclidean
distance between a text's unit vector and its vector at export. Rounding moves only texts with a value half-way between
two levels, overflow moves every text; the median separates the two, a maximum would not.

Measured on a CPU with AVX2 and without VNNI, with an int8 student of 6 blocks of SmolLM2-135M and 128 random texts of
each of the lengths 1, 2, 3, 4 and 8 (medians of groups of 8 texts, which is the size of a sample):

- another rounding, by onnxruntime's emulation of int8 in float32: at most 3e-7, while single texts jump by 0.09;
  other thread counts: 0;
- overflow, the same weights stretched to 8 bits (×127/64, scales likewise): 0.063 to 0.10, single texts from 0.035 up.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact.limits import REFERENCE_DISTANCE
from flipkd_sdk.artifact.manifest import checked_file
from flipkd_sdk.errors import MatcherDirectoryError, SelfTestError
from flipkd_sdk.evaluation.cosines import pair_cosines
from flipkd_sdk.runtimes.encoding.tokenizer import TokenIds
from flipkd_sdk.runtimes.encoding.tokenizer_file import read_tokenizer
from flipkd_sdk.runtimes.onnx.instruction_sets import instruction_sets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.artifact.reference_vectors import SelfTest
    from flipkd_sdk.runtimes.encoding.encoder import Encoded, TextEncoder
    from flipkd_sdk.runtimes.pair_head import PairHead

_passed: set[tuple[str, str]] = set()
"""Hashes of the variants and self-tests that have passed in this process."""


def made_up_sample(directory: Path, manifest: Manifest) -> tuple[tuple[int, ...], ...]:
    """Return texts of random tokens of a matcher's vocabulary but its special tokens; the same texts each time.

    Raises:
        MatcherDirectoryError: the tokenizer's file is missing or changed.
    """
    from flipkd_sdk.artifact.reference_vectors import draw_sample

    path = checked_file(directory, manifest.tokenizer)
    tokenizer = read_tokenizer(path)
    every = set(tokenizer.get_vocab().values())
    ordinary = every - tokenizer.get_added_tokens_decoder().keys()
    return draw_sample(sorted(ordinary or every), max_length=manifest.tokenizer.max_length)


def as_tokens(texts: Sequence[Sequence[int]]) -> list[TokenIds]:
    """Convert a sample's texts to the encoder's input."""
    return [TokenIds(np.array(ids, dtype=np.uint32), was_cut=False) for ids in texts]


def head_numbers(head: PairHead, texts: Sequence[Sequence[int]], encoded: Encoded) -> NDArray[np.float32]:
    """Return the pair head's numbers of all pairs of a sample's texts, shape (pairs,)."""
    a, b = np.array(list(combinations(range(len(texts)), 2))).T
    # A sample has no words, so its token ids are its cues.
    written = [" ".join(map(str, ids)) for ids in texts]
    return head.logits(written, encoded.tokens or [], a, b, pair_cosines(encoded.vectors, a, b))


def load_self_test(directory: Path, manifest: Manifest) -> SelfTest | None:
    """Read the directory's self-test, or return None if it has none.

    Raises:
        MatcherDirectoryError: its file is missing, changed or malformed, or lacks a variant.
    """
    entry = manifest.self_test
    if entry is None:
        return None
    # Imported late, because the file is not opened on a CPU like the exporting one.
    from flipkd_sdk.artifact.reference_vectors import MAX_BYTES, read_self_test

    if entry.bytes > MAX_BYTES:
        raise MatcherDirectoryError(f"{directory / entry.file}: {entry.bytes} bytes; at most {MAX_BYTES} are accepted")
    path = checked_file(directory, entry)
    self_test = read_self_test(path, dimension=manifest.encoder.dimension, max_length=manifest.tokenizer.max_length)
    if missing := sorted(manifest.variants.keys() - self_test.vectors.keys()):
        raise MatcherDirectoryError(f"{path}: no vectors of the {missing[0]} variant; export the matcher again")
    return self_test


def median_distance(encoder: TextEncoder, self_test: SelfTest, precision: str) -> float:
    """Return the median Euclidean distance of a sample's vectors from those at export.

    Args:
        encoder: runs the variant.
        self_test: the sample and the vectors at export.
        precision: the variant.

    Raises:
        ExecutionError: the model could not be run.
    """
    vectors = encoder.encode_tokens(as_tokens(self_test.token_ids))
    return float(np.median(np.linalg.norm(vectors - self_test.vectors[precision], axis=1)))


def refuse_other_vectors(directory: Path, manifest: Manifest, precision: str, encoder: TextEncoder) -> None:
    """Test an opened variant once per process, if this CPU's instruction sets are not those of its verification.

    Raises:
        MatcherDirectoryError: the self-test's file is missing, changed or malformed.
        SelfTestError: the variant returns other vectors here.
    """
    variant, here = manifest.variant(precision), instruction_sets()
    if manifest.self_test is None or (here and here == variant.instruction_sets):
        return
    key = (variant.sha256, manifest.self_test.sha256)
    self_test = None if key in _passed else load_self_test(directory, manifest)
    if self_test is None:
        return
    distance = median_distance(encoder, self_test, precision)
    if not distance <= REFERENCE_DISTANCE:
        raise SelfTestError(
            f"{directory / variant.file}: returns other vectors on this CPU ({' '.join(here) or 'of unknown kind'}) "
            f"than at export ({' '.join(variant.instruction_sets) or 'unknown'}), {distance:.2g} away; the limit is "
            f"{REFERENCE_DISTANCE:g}; {_advice(manifest, precision)}, or export it again on such a CPU; "
            f"'flipkd verify {directory}' shows more"
        )
    _passed.add(key)


def _advice(manifest: Manifest, precision: str) -> str:
    if precision != "fp32" and "fp32" in manifest.variants:
        return "load with precision='fp32'"
    return "export a variant of another precision, such as fp32"
