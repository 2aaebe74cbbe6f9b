"""The self-test file of a matcher directory: a random sample, and its vectors and the head's numbers at export.

Another machine must return the same vectors. The sample is drawn from the vocabulary at random, so the file reveals
nothing about the training texts. It is JSON; a variant's vectors are float16, little-endian, in base64, which moves a
vector by less than 0.0005.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping  # noqa: TC003 - `decode` reads the field types at run time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact import strict_json
from flipkd_sdk.errors import MatcherDirectoryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SELF_TEST_FILE = "self_test.json"

MAX_BYTES = 1 << 20

_TEXTS = 8
_LENGTHS = (1, 2, 4, 8)
"""Lengths of the texts in turn, in tokens. They are short, because each further token is another chance that a value
half-way between two levels is rounded to the other one on another machine."""
_SEED = 0
_STORED = np.dtype("<f2")


@dataclass(frozen=True, slots=True, eq=False)
class SelfTest:
    """A sample and its reference vectors."""

    token_ids: tuple[tuple[int, ...], ...]
    """The sample's texts as token ids."""
    vectors: Mapping[str, NDArray[np.float32]]
    """By precision: the texts' unit vectors, shape (texts, dimension)."""
    numbers: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """By precision: the pair head's numbers of all pairs of texts, shape (texts · (texts − 1) / 2,); empty without."""


@dataclass(frozen=True, slots=True)
class _Content:
    """Content of the file."""

    token_ids: tuple[tuple[int, ...], ...]
    vectors: Mapping[str, str]
    numbers: Mapping[str, str]


def draw_sample(vocabulary: Sequence[int], *, max_length: int) -> tuple[tuple[int, ...], ...]:
    """Draw texts of token ids from a vocabulary; the same vocabulary gives the same sample.

    Args:
        vocabulary: ids of the tokens to draw from.
        max_length: most tokens of a text.
    """
    random = np.random.default_rng(_SEED)
    lengths = [min(_LENGTHS[i % len(_LENGTHS)], max_length) for i in range(_TEXTS)]
    return tuple(tuple(random.choice(vocabulary, length).tolist()) for length in lengths)


def write_self_test(path: Path, self_test: SelfTest) -> None:
    """Write a self-test, with vectors rounded to float16."""
    content: dict[str, object] = {"token_ids": self_test.token_ids, "vectors": _encoded(self_test.vectors)}
    if self_test.numbers:
        content["numbers"] = _encoded(self_test.numbers)
    path.write_text(json.dumps(content) + "\n", encoding="ascii")


def read_self_test(path: Path, *, dimension: int, max_length: int) -> SelfTest:
    """Read a self-test file that was checked against the manifest.

    Args:
        path: the file.
        dimension: length of the matcher's vectors.
        max_length: most tokens of a text.

    Raises:
        MatcherDirectoryError: it is malformed, or does not fit the matcher.
    """
    if path.stat().st_size > MAX_BYTES:
        raise MatcherDirectoryError(f"{path}: larger than {MAX_BYTES} bytes, so it is not a self-test")
    try:
        parsed = strict_json.parse(path.read_bytes())
        if isinstance(parsed, dict):
            parsed.setdefault("numbers", {})  # Directories without a pair head have none.
        content: _Content = strict_json.decode(_Content, parsed, "self-test")
        vectors = {name: _vectors(text, dimension) for name, text in content.vectors.items()}
        numbers = {name: _vectors(text, 1)[:, 0] for name, text in content.numbers.items()}
    except (ValueError, RecursionError, MatcherDirectoryError) as error:
        raise MatcherDirectoryError(f"{path}: not a self-test ({error}); export the matcher again") from error
    texts = content.token_ids
    if len(texts) < 2 or not all(0 < len(ids) <= max_length and 0 <= min(ids) <= max(ids) < 1 << 32 for ids in texts):
        raise MatcherDirectoryError(
            f"{path}: needs at least two texts of 1 to {max_length} token ids; export the matcher again"
        )
    for name, values in vectors.items():
        if len(values) != len(texts):
            raise MatcherDirectoryError(
                f"{path}: {len(values)} {name} vectors for {len(texts)} texts; export the matcher again"
            )
    pairs = len(texts) * (len(texts) - 1) // 2
    for name, values in numbers.items():
        if len(values) != pairs:
            raise MatcherDirectoryError(
                f"{path}: {len(values)} {name} numbers for {pairs} pairs; export the matcher again"
            )
    return SelfTest(texts, vectors, numbers)


def _encoded(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, str]:
    return {name: base64.b64encode(values.astype(_STORED).tobytes()).decode() for name, values in arrays.items()}


def _vectors(text: str, dimension: int) -> NDArray[np.float32]:
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), _STORED).astype(np.float32)
    except binascii.Error:
        raise ValueError("vectors that are not base64") from None
    if values.size % dimension or not np.isfinite(values).all():
        raise ValueError(f"vectors that are not finite float16 of {dimension} dimensions")
    return values.reshape(-1, dimension)
