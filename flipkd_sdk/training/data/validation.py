"""Validation texts: texts that no stage learns, on which the student is compared with its teacher."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation.encoders import neighbourhood_overlap, similarity_error
from flipkd_sdk.pairs import read_texts
from flipkd_sdk.training import distributed
from flipkd_sdk.training.data.corpus import alignment_targets
from flipkd_sdk.training.data.vector_cache import cached_vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.evaluation.encoders import Encode
    from flipkd_sdk.training.data.corpus import Corpus
    from flipkd_sdk.training.models.committee import Committee
    from flipkd_sdk.training.models.teacher import Teacher

MOST_TEXTS = 1000
"""Most texts that are drawn of the unlabelled ones, and most of the development texts."""
CRITERION = "validation_cosine"
NEIGHBOURS = 10


def same_text(text: str) -> str:
    """Return the key that texts share if they differ in case, spaces and compatibility characters only."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def draw_validation_texts(
    unlabelled: Sequence[str], dev: Sequence[str], train: Sequence[str], *, share: float, seed: int
) -> tuple[str, ...]:
    """Draw texts to validate on, none of which equals a train text but for case and spaces.

    Args:
        unlabelled: texts of which a share is drawn; the caller trains on the others.
        dev: texts of the development pairs, all of which are taken up to `MOST_TEXTS`.
        train: texts of the train pairs, which are trained on in any case.
        share: share of the unlabelled texts; 0 draws no text at all.
        seed: seed of the draw.
    """
    if share == 0:
        return ()
    random, learned = np.random.default_rng(seed), {same_text(text) for text in train}

    def drawn(texts: Sequence[str], count: int) -> list[str]:
        free = [text for text in dict.fromkeys(texts) if same_text(text) not in learned]
        return [free[i] for i in np.sort(random.permutation(len(free))[: min(count, MOST_TEXTS)])]

    return tuple(dict.fromkeys([*drawn(dev, len(dev)), *drawn(unlabelled, round(share * len(unlabelled)))]))


def read_validation_texts(path: Path, column: str, train: Iterable[str]) -> tuple[str, ...]:
    """Read a file of validation texts.

    Raises:
        InvalidPairsError: the file cannot be used, or one of its texts occurs in the train pairs.
    """
    texts, learned = tuple(dict.fromkeys(read_texts(path, column=column))), {same_text(text) for text in train}
    if shared := [text for text in texts if same_text(text) in learned]:
        raise InvalidPairsError(
            f"{path}: {len(shared)} of {len(texts)} validation texts also occur in the train pairs, such as "
            f"{shared[0][:60]!r}; remove them from one of the files"
        )
    return texts


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Validation texts with the teacher's vectors, as an early-stopping measure of the alignment."""

    texts: tuple[str, ...]
    teacher: NDArray[np.float32]
    """The teacher's unit vectors, (n, d)."""
    target: NDArray[np.float32]
    """The same in the student's dimension, (n, r)."""

    def measures(self, encode: Encode) -> dict[str, float]:
        """Compare an encoder with the teacher: mean cosine, error of similarities, overlap of neighbourhoods."""
        vectors = encode(self.texts)
        return {
            CRITERION: float((vectors * self.target).sum(axis=1).mean()),
            "validation_error": similarity_error(vectors, self.teacher),
            "validation_overlap": neighbourhood_overlap(vectors, self.teacher, NEIGHBOURS),
        }


def prepare_validation(
    texts: tuple[str, ...], teacher: Teacher | Committee | None, corpus: Corpus
) -> Validation | None:
    """Encode the validation texts with the teacher; None without such texts or without a teacher that encodes."""
    if teacher is None or corpus.teacher is None or corpus.target is None or len(texts) < 2:
        return None
    vectors = distributed.broadcast_from_main(partial(cached_vectors, teacher, texts))
    return Validation(texts, vectors, alignment_targets(corpus.teacher.numpy(), corpus.target.shape[1], of=vectors))
