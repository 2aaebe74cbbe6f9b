"""Weights of a pair head and their file, a plain ``.npz`` that is never unpickled."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray  # noqa: TC002 - the field types are read at run time

from flipkd_sdk.arrays import read_arrays, write_arrays
from flipkd_sdk.pair_head.cues import CUES, EARLIER_CUES, CueReader

if TYPE_CHECKING:
    from pathlib import Path

FILE = "head.npz"

MAX_BYTES = 1 << 21

MATCH_FEATURES = 9
"""Features of a token beside its vectors, see `flipkd_sdk.pair_head.scoring`."""
PAIR_FEATURES = 5
"""Features of a pair beside those of its tokens and its cues."""


_TYPES = {"context": np.int64, "negators": np.str_, "number_words": np.str_, "number_values": np.float64}
"""Types of the fields that are not of float32."""


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """Weights of a pair head: k numbers of a token vector are contextual, l lexical, h neurons read each token."""

    sharpness: NDArray[np.float32]
    """Weights of contextual and lexical similarity, of equal tokens and of equal neighbours in the alignment; (4,)."""
    unaligned: NDArray[np.float32]
    """Weight of aligning a token with none, shape (1,)."""
    compare_1: NDArray[np.float32]
    """Shape (h, 3 (k + l) + MATCH_FEATURES)."""
    compare_1_bias: NDArray[np.float32]
    compare_2: NDArray[np.float32]
    """Shape (h, h)."""
    compare_2_bias: NDArray[np.float32]
    importance: NDArray[np.float32]
    """Shape (1, k + l)."""
    importance_bias: NDArray[np.float32]
    decide_1: NDArray[np.float32]
    """Shape (m, 4 h + PAIR_FEATURES + cues)."""
    decide_1_bias: NDArray[np.float32]
    decide_2: NDArray[np.float32]
    """Shape (1, m)."""
    decide_2_bias: NDArray[np.float32]
    cosine: NDArray[np.float32]
    """Weight of the cosine of the text vectors, shape (1,)."""
    context: NDArray[np.int64]
    """Number k of contextual numbers in a token vector, shape ()."""
    negators: NDArray[np.str_]
    """Words that negate, shape (p,)."""
    number_words: NDArray[np.str_]
    """Shape (q,)."""
    number_values: NDArray[np.float64]
    """Values of the number words, positive, shape (q,)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            expected = np.dtype(_TYPES.get(field.name, np.float32))
            if expected.kind == "U" == value.dtype.kind:
                if not all(value.ravel().tolist()):
                    raise ValueError(f"{field.name}: expected words that are not empty")
            elif value.dtype != expected or not np.isfinite(value).all():
                raise ValueError(f"{field.name}: expected finite numbers of type {expected}")
        shapes = self._shapes()
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: shape {getattr(self, name).shape} instead of {shape}")
        if not 0 < int(self.context) < self.dimension:
            raise ValueError(f"context: {int(self.context)} of {self.dimension} numbers of a token vector")
        if not (self.number_values > 0).all():
            raise ValueError("number_values: expected positive numbers")

    def cue_reader(self) -> CueReader:
        """Return what reads the cues of texts with the words of this head's language."""
        values = dict(zip(self.number_words.tolist(), self.number_values.tolist(), strict=True))
        return CueReader(self.negators.tolist(), values)

    @property
    def dimension(self) -> int:
        """Return the dimension k + l of the token vectors."""
        return int(self.importance.shape[-1])

    @property
    def cues(self) -> int:
        """Return the number of cues that the head reads, the first ones of all."""
        read = int(self.decide_1.shape[-1]) - 4 * self.compare_1_bias.size - PAIR_FEATURES
        return read if read == EARLIER_CUES else CUES

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, decisive = self.compare_1_bias.size, self.decide_1_bias.size
        return {
            "sharpness": (4,),
            "unaligned": (1,),
            "compare_1": (hidden, 3 * self.dimension + MATCH_FEATURES),
            "compare_1_bias": (hidden,),
            "compare_2": (hidden, hidden),
            "compare_2_bias": (hidden,),
            "importance": (1, self.dimension),
            "importance_bias": (1,),
            "decide_1": (decisive, 4 * hidden + PAIR_FEATURES + self.cues),
            "decide_1_bias": (decisive,),
            "decide_2": (1, decisive),
            "decide_2_bias": (1,),
            "cosine": (1,),
            "context": (),
            "negators": (self.negators.size,),
            "number_words": (self.number_values.size,),
            "number_values": (self.number_values.size,),
        }


def write_weights(path: Path, weights: HeadWeights) -> None:
    """Write weights; the same weights give the same bytes."""
    write_arrays(path, weights)


def read_weights(path: Path, *, dimension: int) -> HeadWeights:
    """Read weights that fit token vectors of a dimension.

    Raises:
        MatcherDirectoryError: the file is missing, malformed, or belongs to other token vectors.
    """
    return read_arrays(
        HeadWeights, path, what="the weights of this matcher's pair head", dimension=dimension, largest=MAX_BYTES
    )
