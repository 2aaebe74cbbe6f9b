"""A committee of teachers: each was fine-tuned without one fold of the train pairs, and together they encode texts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import ModelReference
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.models.teacher import Teacher
    from flipkd_sdk.training.tokens import TokenizedTexts


@dataclass(frozen=True, slots=True, eq=False)
class Committee:
    """Teachers whose mean vector is that of the committee; it is used like a single `Teacher`."""

    members: tuple[Teacher, ...]
    """One for each fold, which that member has not seen."""
    fold: dict[str, int]
    """Fold of each text of the train pairs."""

    @property
    def max_length(self) -> int:
        """Maximum number of tokens of a text."""
        return self.members[0].max_length

    @property
    def identity(self) -> str:
        """Everything that a text's vector depends on."""
        return " + ".join(member.identity for member in self.members)

    @property
    def reference(self) -> ModelReference:
        """Source and licence of the members, and a digest of their revisions."""
        revisions = " ".join(member.revision for member in self.members)
        return replace(self.members[0].reference, revision=hashlib.sha256(revisions.encode()).hexdigest())

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Return the texts as token ids, which are the same for all members."""
        return self.members[0].tokenize(texts)

    def encode(self, texts: Sequence[str], *, progress: str | None = None) -> NDArray[np.float32]:
        """Return the normalized mean of the members' vectors of n texts, float32 (n, d)."""
        mean = np.mean([member.encode(texts, progress=progress) for member in self.members], axis=0)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)  # type: ignore[no-any-return]

    def honest(self, texts: Sequence[str]) -> dict[int, list[int]]:
        """Return the indices of the texts that a single member has not seen, by the number of that member."""
        found: dict[int, list[int]] = {}
        for index, text in enumerate(texts):
            if text in self.fold:
                found.setdefault(self.fold[text], []).append(index)
        return found


def committee_of(members: Sequence[Teacher], train: Pairs, fold: NDArray[np.int64]) -> Committee:
    """Return the committee of members that were fine-tuned without the fold of their own number.

    Args:
        members: the teachers.
        train: n train pairs.
        fold: fold of each pair, shape (n,), from `flipkd_sdk.pairs.fold_numbers`.
    """
    sides = (train.a, train.b)
    return Committee(tuple(members), {text: int(fold[i]) for side in sides for i, text in enumerate(side)})
